/* The program's worker under another name: the hostile one takes its place in the process table and does what it does,
 * too. */
#define proc_worker proc_honest_worker
#include "proc/worker.c"
