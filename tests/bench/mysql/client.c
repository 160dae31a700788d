/* What the MySQL source is measured against: the least that a client can do with what the server sends.
 *
 *   client drain SOCKET FILE     fetches the binary log from the start of FILE to its end
 *   client select SOCKET QUERY   fetches all rows of QUERY, unbuffered
 *
 * Everything that was fetched is thrown away; how much it was is printed. */
#include <stdio.h>
#include <string.h>

#include <mysql.h>

/* Needs what the one before declares. */
#include <mariadb_rpl.h>

static int fail(MYSQL *mysql, const char *what) {
    fprintf(stderr, "%s: %s\n", what, mysql_error(mysql));
    return 1;
}

static int drain(MYSQL *mysql, const char *file) {
    /* Checksums as they are, GTID events as they are, no statements. */
    if (mysql_query(mysql, "SET @master_binlog_checksum = @@global.binlog_checksum, @source_binlog_checksum = @@global.binlog_checksum, "
                           "@mariadb_slave_capability = 4"))
        return fail(mysql, "set");
    MARIADB_RPL *rpl = mariadb_rpl_init(mysql);
    if (!rpl) return fail(mysql, "mariadb_rpl_init");
    unsigned int server_id = 4242, non_blocking = 1;
    unsigned long start = 4;
    mariadb_rpl_optionsv(rpl, MARIADB_RPL_FILENAME, file, strlen(file));
    mariadb_rpl_optionsv(rpl, MARIADB_RPL_START, start);
    mariadb_rpl_optionsv(rpl, MARIADB_RPL_SERVER_ID, server_id);
    mariadb_rpl_optionsv(rpl, MARIADB_RPL_FLAGS, non_blocking);
    if (mariadb_rpl_open(rpl)) return fail(mysql, "mariadb_rpl_open");
    MARIADB_RPL_EVENT *event = NULL;
    unsigned long events = 0, bytes = 0;
    while ((event = mariadb_rpl_fetch(rpl, event)) != NULL) {
        events++;
        bytes += event->event_length;
    }
    if (mysql_errno(mysql)) return fail(mysql, "mariadb_rpl_fetch");
    mariadb_free_rpl_event(event);
    mariadb_rpl_close(rpl);
    printf("%lu events, %lu bytes\n", events, bytes);
    return events == 0;
}

static int fetch(MYSQL *mysql, const char *query) {
    if (mysql_query(mysql, query)) return fail(mysql, "query");
    MYSQL_RES *result = mysql_use_result(mysql);
    if (!result) return fail(mysql, "mysql_use_result");
    unsigned long rows = 0;
    while (mysql_fetch_row(result)) rows++;
    if (mysql_errno(mysql)) return fail(mysql, "mysql_fetch_row");
    mysql_free_result(result);
    printf("%lu rows\n", rows);
    return rows == 0;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: client drain|select SOCKET FILE|QUERY\n");
        return 2;
    }
    MYSQL *mysql = mysql_init(NULL);
    if (!mysql_real_connect(mysql, NULL, "root", "", NULL, 0, argv[2], 0)) return fail(mysql, "connect");
    int failed = strcmp(argv[1], "drain") == 0 ? drain(mysql, argv[3]) : fetch(mysql, argv[3]);
    mysql_close(mysql);
    return failed;
}
