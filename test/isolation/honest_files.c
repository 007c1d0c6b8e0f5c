/* As honest_worker.c, for the process that serves documents. */
#define proc_files proc_honest_files
#include "proc/files.c"
