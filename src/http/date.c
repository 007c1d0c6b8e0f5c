#include "http/http.h"

#include <string.h>

static const char days[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
				    "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };

struct civil {
	int64_t year;
	unsigned month, day; /* 1 to 12, 1 to 31 */
};

/* The Gregorian calendar has 146097 days in 400 years; years are counted from March, so that the
 * leap day is the last one. Days are counted from 1970-01-01. */
static int64_t civil_to_days(struct civil civil)
{
	int64_t year = civil.month <= 2 ? civil.year - 1 : civil.year;
	int64_t era = (year >= 0 ? year : year - 399) / 400;
	int64_t year_of_era = year - era * 400;
	int64_t month = civil.month > 2 ? civil.month - 3 : civil.month + 9;
	int64_t day_of_year = (153 * month + 2) / 5 + civil.day - 1;
	int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

	return era * 146097 + day_of_era - 719468;
}

static struct civil civil_of_days(int64_t day)
{
	int64_t shifted = day + 719468;
	int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
	int64_t day_of_era = shifted - era * 146097;
	int64_t year_of_era =
		(day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	int64_t day_of_year =
		day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t month = (5 * day_of_year + 2) / 153;
	struct civil civil;

	civil.day = (unsigned)(day_of_year - (153 * month + 2) / 5 + 1);
	civil.month = (unsigned)(month < 10 ? month + 3 : month - 9);
	civil.year = year_of_era + era * 400 + (civil.month <= 2);
	return civil;
}

static char *put_digits(char *at, int64_t value, int count)
{
	for (int i = count - 1; i >= 0; i--, value /= 10)
		at[i] = (char)('0' + value % 10);
	return at + count;
}

static char *put_text(char *at, const char *text, size_t len)
{
	memcpy(at, text, len);
	return at + len;
}

void http_date_write(int64_t epoch_s, char ret[HTTP_DATE_LEN])
{
	const int64_t last = 253402300799; /* 9999-12-31 23:59:59 */
	int64_t time_s = epoch_s < 0 ? 0 : epoch_s > last ? last : epoch_s;
	int64_t second = time_s % 86400;
	struct civil civil = civil_of_days(time_s / 86400);
	char *at = put_text(ret, days[(time_s / 86400 + 4) % 7], 3);

	at = put_text(at, ", ", 2);
	at = put_digits(at, civil.day, 2);
	*at++ = ' ';
	at = put_text(at, months[civil.month - 1], 3);
	*at++ = ' ';
	at = put_digits(at, civil.year, 4);
	*at++ = ' ';
	at = put_digits(at, second / 3600, 2);
	*at++ = ':';
	at = put_digits(at, second / 60 % 60, 2);
	*at++ = ':';
	at = put_digits(at, second % 60, 2);
	put_text(at, " GMT", 4);
}

/* A date that is being read: past a fault it yields zeroes and clears ok. */
struct date_reader {
	const char *at, *end;
	bool ok;
};

static void date_expect(struct date_reader *reader, const char *text)
{
	size_t len = strlen(text);

	if ((size_t)(reader->end - reader->at) < len || memcmp(reader->at, text, len) != 0)
		reader->ok = false;
	else
		reader->at += len;
}

static unsigned date_number(struct date_reader *reader, int digits)
{
	unsigned value = 0;

	for (int i = 0; i < digits; i++) {
		if (!reader->ok || reader->at == reader->end || !ascii_is_digit(*reader->at)) {
			reader->ok = false;
			return 0;
		}
		value = value * 10 + (unsigned)(*reader->at++ - '0');
	}
	return value;
}

static unsigned date_month(struct date_reader *reader)
{
	for (unsigned i = 0; i < 12; i++)
		if (reader->end - reader->at >= 3 && memcmp(reader->at, months[i], 3) == 0) {
			reader->at += 3;
			return i + 1;
		}
	reader->ok = false;
	return 1;
}

static int64_t date_time(struct date_reader *reader)
{
	unsigned hour = date_number(reader, 2);

	date_expect(reader, ":");
	unsigned minute = date_number(reader, 2);

	date_expect(reader, ":");
	unsigned second = date_number(reader, 2);

	if (hour > 23 || minute > 59 || second > 60)
		reader->ok = false;
	return hour * 3600 + minute * 60 + second;
}

/* "Sun Nov  6 08:49:37 1994" */
static int64_t read_asctime(struct date_reader *reader, struct civil *ret)
{
	int64_t second;

	date_expect(reader, " ");
	ret->month = date_month(reader);
	date_expect(reader, " ");
	if (reader->ok && reader->at < reader->end && *reader->at == ' ') {
		reader->at++;
		ret->day = date_number(reader, 1);
	} else {
		ret->day = date_number(reader, 2);
	}
	date_expect(reader, " ");
	second = date_time(reader);
	date_expect(reader, " ");
	ret->year = date_number(reader, 4);
	return second;
}

/* "Sun, 06 Nov 1994 08:49:37 GMT" (separator ' ') and "Sunday, 06-Nov-94 08:49:37 GMT" ('-') */
static int64_t read_comma_form(struct date_reader *reader, struct civil *ret, bool short_year)
{
	const char *separator = short_year ? "-" : " ";
	int64_t second;

	date_expect(reader, ", ");
	ret->day = date_number(reader, 2);
	date_expect(reader, separator);
	ret->month = date_month(reader);
	date_expect(reader, separator);
	ret->year = date_number(reader, short_year ? 2 : 4);
	date_expect(reader, " ");
	second = date_time(reader);
	date_expect(reader, " GMT");
	return second;
}

/* RFC 9110, 5.6.7: a two-digit year that seems over 50 years ahead is the last one in the past
 * that ends so. */
static int64_t full_year(int64_t short_year, int64_t now_s)
{
	int64_t now_year = civil_of_days(now_s / 86400).year;
	int64_t year = now_year - now_year % 100 + short_year;

	return year > now_year + 50 ? year - 100 : year;
}

bool http_date_parse(struct span text, int64_t now_s, int64_t *ret_epoch_s)
{
	static const unsigned month_days[12] = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	static const char *const rests[7] = { "day",   "day", "sday", "nesday",
					      "rsday", "day", "urday" };
	struct date_reader reader = { text.ptr, text.ptr + text.len, true };
	struct civil civil = { 0 };
	int64_t second;
	size_t day = 0;

	if (text.len < 4)
		return false;
	while (day < 7 && memcmp(text.ptr, days[day], 3) != 0)
		day++;
	if (day == 7)
		return false;
	reader.at += 3;
	if (*reader.at == ' ') {
		second = read_asctime(&reader, &civil);
	} else {
		bool short_year = *reader.at != ',';

		if (short_year)
			date_expect(&reader, rests[day]);
		second = read_comma_form(&reader, &civil, short_year);
		if (short_year)
			civil.year = full_year(civil.year, now_s);
	}
	if (!reader.ok || reader.at != reader.end || civil.day < 1 ||
	    civil.day > month_days[civil.month - 1])
		return false;
	*ret_epoch_s = civil_to_days(civil) * 86400 + second;
	return true;
}
