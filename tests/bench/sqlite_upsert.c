/* What the SQLite sink is measured against: merges rows of a text file (as PostgreSQL's COPY prints them) into a table, a given
 * number of rows a transaction.
 *
 *   sqlite_upsert DATABASE ROWS BATCH
 *
 * The table has the benchmark's ten columns, stored as the sink stores them. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 10 };

static void fail(sqlite3 *db, const char *what) {
    fprintf(stderr, "%s: %s\n", what, db ? sqlite3_errmsg(db) : "");
    exit(1);
}

static void run(sqlite3 *db, const char *sql) {
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK) fail(db, sql);
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: sqlite_upsert DATABASE ROWS BATCH\n");
        return 2;
    }
    sqlite3 *db = NULL;
    if (sqlite3_open(argv[1], &db) != SQLITE_OK) fail(db, "open");
    FILE *rows = fopen(argv[2], "r");
    if (!rows) fail(NULL, argv[2]);
    long batch = atol(argv[3]);
    run(db, "PRAGMA journal_mode = WAL");
    run(db, "PRAGMA synchronous = NORMAL");
    run(db, "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, n INTEGER, amount TEXT, note TEXT, code TEXT, placed TEXT, day TEXT, "
            "paid INTEGER, items TEXT, ref TEXT)");
    sqlite3_stmt *insert = NULL;
    const char *sql = "INSERT INTO orders VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET n = excluded.n, amount = excluded.amount, "
                      "note = excluded.note, code = excluded.code, placed = excluded.placed, day = excluded.day, paid = excluded.paid, "
                      "items = excluded.items, ref = excluded.ref";
    if (sqlite3_prepare_v2(db, sql, -1, &insert, NULL) != SQLITE_OK) fail(db, sql);
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    long count = 0;
    while ((length = getline(&line, &capacity, rows)) > 0) {
        if (count % batch == 0) run(db, "BEGIN IMMEDIATE");
        line[length - 1] = '\t';
        char *field = line;
        for (int column = 1; column <= COLUMNS; column++) {
            char *end = strchr(field, '\t');
            int size = (int)(end - field);
            if (size == 2 && field[0] == '\\' && field[1] == 'N') {
                sqlite3_bind_null(insert, column);
            } else if (column <= 2) {
                sqlite3_bind_int64(insert, column, atoll(field));
            } else if (column == 8) {
                sqlite3_bind_int64(insert, column, field[0] == 't');
            } else {
                sqlite3_bind_text(insert, column, field, size, SQLITE_STATIC);
            }
            field = end + 1;
        }
        if (sqlite3_step(insert) != SQLITE_DONE) fail(db, "insert");
        sqlite3_reset(insert);
        if (++count % batch == 0) run(db, "COMMIT");
    }
    if (count % batch != 0) run(db, "COMMIT");
    sqlite3_finalize(insert);
    sqlite3_close(db);
    fclose(rows);
    free(line);
    return 0;
}
