//! The files in `pipelines/`, run as they are but for the addresses in them: encrypted, with verified certificates, into what they name.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use mainstem_tests::{
    Database, Flavor, MySqlDatabase, MySqlServer, PgServer, PgVersion, Run, Table, Weed, compare_parquet,
    compare_parquet_with_rows, compare_warehouse, repository, table,
};
use tempfile::TempDir;

const ROWS: &str = "CREATE TABLE orders (id int PRIMARY KEY, item varchar(20) NOT NULL, amount decimal(10,2));
    INSERT INTO orders VALUES (1, 'tea', 3.50), (2, 'coffee', 4.25), (3, 'caf\u{e9} \u{1F600}', NULL), (4, 'water', -0.01);
    CREATE TABLE customers (id int PRIMARY KEY, name varchar(40));
    INSERT INTO customers VALUES (1, 'Ada'), (2, 'B\u{f6}rje')";
const CHANGES: &str = "UPDATE orders SET amount = amount + 1 WHERE id < 3; DELETE FROM orders WHERE id = 4;
    INSERT INTO orders VALUES (5, 'juice', 7); UPDATE customers SET id = 20 WHERE id = 2";
/// All rows of `orders` and of `customers`, a line each.
const ORDERS: &str = "SELECT id, item, amount FROM orders ORDER BY id";
const CUSTOMERS: &str = "SELECT id, name FROM customers ORDER BY id";

/// A file of `pipelines/` with other addresses, and where it runs.
struct Shipped {
    dir: TempDir,
    run: Run,
}

impl Shipped {
    /// Every text of `addresses` has to be in the file.
    fn new(file: &str, addresses: &[(&str, &str)], authorities: &[PathBuf]) -> Self {
        let dir = tempfile::Builder::new().prefix("mainstem-test-").tempdir().expect("temporary folder");
        let mut text = fs::read_to_string(repository().join("pipelines").join(file)).expect("pipeline file");
        for (shipped, address) in addresses {
            assert!(text.contains(shipped), "{file} has no {shipped}");
            text = text.replace(shipped, address);
        }
        assert!(!text.contains(".internal"), "{file} names an address that this test does not know:\n{text}");
        let path = dir.path().join(file);
        fs::write(&path, text).expect("pipeline file");
        let trusted: String = authorities.iter().map(|path| fs::read_to_string(path).expect("certificate")).collect();
        let trusted_file = dir.path().join("authorities.pem");
        fs::write(&trusted_file, trusted).expect("certificates");
        let mut run = Run::new(&dir.path().join("data")).file(path).variable("SSL_CERT_FILE", &trusted_file.display().to_string());
        for password in ["PGPASSWORD", "MYSQL_PASSWORD", "DW_PASSWORD"] {
            run = run.variable(password, "secret");
        }
        Self { dir, run }
    }

    /// What the AWS SDK takes from the environment.
    fn with_s3(mut self) -> (Self, &'static Weed) {
        static BUCKET: OnceLock<&'static Weed> = OnceLock::new();
        let weed = *BUCKET.get_or_init(|| {
            let weed = Weed::shared();
            weed.create_bucket("warehouse");
            weed
        });
        let endpoint = format!("http://127.0.0.1:{}", weed.port());
        for (name, value) in [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", Weed::ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", Weed::SECRET_KEY),
        ] {
            self.run = self.run.variable(name, value);
        }
        (self, weed)
    }

    fn downloaded(&self, weed: &Weed) -> PathBuf {
        let dir = self.dir.path().join("downloaded");
        weed.download("warehouse", &dir);
        dir.join("shop")
    }
}

/// A PostgreSQL with a certificate, and the database `shop` in it.
fn postgres_shop() -> (&'static PgServer, Database) {
    static SERVER: OnceLock<PgServer> = OnceLock::new();
    let server = SERVER.get_or_init(|| {
        let server = PgServer::with_settings(PgVersion::V15, &[("ssl", "on")]);
        let shop = server.create_database("shop");
        shop.exec("CREATE ROLE cdc LOGIN SUPERUSER PASSWORD 'secret'; CREATE ROLE loader LOGIN SUPERUSER PASSWORD 'secret'");
        shop.exec(ROWS);
        shop.exec(
            "CREATE SCHEMA billing; CREATE TABLE billing.invoices (id int PRIMARY KEY); INSERT INTO billing.invoices VALUES (1)",
        );
        server
    });
    (server, server.existing_database("shop"))
}

/// The database `shop` of a shared server, and the users of the files.
fn mysql_shop(flavor: Flavor) -> (&'static MySqlServer, MySqlDatabase) {
    let server = MySqlServer::shared(flavor);
    users(server);
    let shop = server.create_database("shop");
    shop.exec(ROWS);
    (server, shop)
}

fn users(server: &MySqlServer) {
    for user in ["cdc", "loader"] {
        server.exec(&format!("CREATE USER IF NOT EXISTS {user} IDENTIFIED BY 'secret'; GRANT ALL ON *.* TO {user}"));
    }
}

/// Rows as one text, in which all clients agree.
fn of_postgres(database: &Database, schema: &str, query: &str) -> String {
    let tabs =
        query.replacen("SELECT id, ", "SELECT concat_ws(E'\\t', id, ", 1).replacen(" FROM ", &format!(") FROM {schema}."), 1);
    database.query(&tabs.replace("amount)", "coalesce(amount::text, 'NULL'))"))
}

#[test]
fn mysql_to_warehouse() {
    let (server, shop) = mysql_shop(Flavor::MySql);
    let (warehouse_server, _) = postgres_shop();
    let warehouse = warehouse_server.create_database("analytics");
    let shipped = Shipped::new(
        "mysql-to-warehouse.yaml",
        &[
            ("db.internal:3306", &format!("localhost:{}", server.port())),
            ("dw.internal:5432", &format!("localhost:{}", warehouse_server.port())),
        ],
        &[server.ca(), warehouse_server.ca()],
    );
    for changes in ["DO 0", CHANGES] {
        shop.exec(changes);
        shipped.run.once_succeeds();
        for query in [ORDERS, CUSTOMERS] {
            assert_eq!(of_postgres(&warehouse, "shop", query), shop.query(query));
        }
    }
}

#[test]
fn postgres_to_mysql() {
    let (server, shop) = postgres_shop();
    let target = MySqlServer::shared(Flavor::MySql);
    users(target);
    let (current, history) = (target.create_database("analytics"), target.create_database("history"));
    let shipped = Shipped::new(
        "postgres-to-mysql.yaml",
        &[
            ("db.internal:5432", &format!("localhost:{}", server.port())),
            ("dw.internal:3306", &format!("localhost:{}", target.port())),
        ],
        &[server.ca(), target.ca()],
    );
    shipped.run.once_succeeds();
    for query in [ORDERS, CUSTOMERS] {
        assert_eq!(current.query(query), of_postgres(&shop, "public", query));
        assert_eq!(history.query(query), of_postgres(&shop, "public", query));
    }
}

#[test]
fn mariadb_to_s3() {
    let (server, shop) = mysql_shop(Flavor::MariaDb);
    let (shipped, weed) =
        Shipped::new("mariadb-to-s3.yaml", &[("db.internal:3306", &format!("localhost:{}", server.port()))], &[server.ca()])
            .with_s3();
    for changes in ["DO 0", CHANGES] {
        shop.exec(changes);
        shipped.run.once_succeeds();
        let orders = Table {
            schema: "shop".to_owned(),
            name: "orders".to_owned(),
            columns: [("id", "integer"), ("item", "text"), ("amount", "numeric")]
                .map(|(name, kind)| (name.into(), kind.into()))
                .to_vec(),
            key: vec!["id".to_owned()],
        };
        let rows = shop.query(ORDERS).replace("NULL", "\\N");
        compare_parquet_with_rows(&orders, &rows, &shipped.downloaded(weed), "shop-mariadb-lake.shop.orders");
    }
}

#[test]
fn postgres_to_s3() {
    let (server, shop) = postgres_shop();
    let address = format!("localhost:{}", server.port());
    let (shipped, weed) = Shipped::new("postgres-to-s3.yaml", &[("db.internal:5432", &address)], &[server.ca()]).with_s3();
    shipped.run.once_succeeds();
    let lake: &Path = &shipped.downloaded(weed);
    for name in ["orders", "customers"] {
        compare_parquet(&table(&shop, "public", name), &shop, lake, &format!("shop-lake.public.{name}"));
    }
}

#[test]
fn postgres_to_warehouse() {
    let (server, shop) = postgres_shop();
    let warehouse = server.create_database("analytics_of_postgres");
    let address = format!("localhost:{}", server.port());
    let shipped = Shipped::new(
        "postgres-to-warehouse.yaml",
        &[("db.internal:5432", &address), ("dw.internal:5432/analytics", &format!("{address}/analytics_of_postgres"))],
        &[server.ca()],
    );
    shipped.run.once_succeeds();
    for name in ["orders", "customers"] {
        compare_warehouse(&table(&shop, "public", name), &shop, &warehouse);
    }
    compare_warehouse(&table(&shop, "billing", "invoices"), &shop, &warehouse);
    assert_eq!(of_postgres(&warehouse, "history", ORDERS), of_postgres(&shop, "public", ORDERS));
}
