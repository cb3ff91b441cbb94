//! The application over a real database. Expectations come from SQL run here, or from the contract's own words.

mod common;

use common::{Server, database_url, run, sql, sql_json};
use hyper::StatusCode;
use rust_server::{
    cache::{Table, prefix},
    config::{MasterSource, Start},
    master::Master,
};
use serde_json::{Value, json};
use std::time::Duration;

const Q1: &str = "{ items(first: 20) { id name priceCents category { name } } }";
const Q2: &str = "{ items(first: 20) { id name priceCents category { name } area { name } \
                  reviews(first: 3) { rating body author { name } } } }";
const Q3: &str = "{ items(first: 500) { id name description priceCents openedOn updatedAt category { name } } }";

const Q2_SQL: &str = "select json_build_object('items', json_agg(json_build_object(
    'id', i.id::text, 'name', i.name, 'priceCents', i.price_cents,
    'category', (select json_build_object('name', c.name) from category c where c.id = i.category_id),
    'area', (select json_build_object('name', a.name) from area a where a.id = i.area_id),
    'reviews', (select coalesce(json_agg(json_build_object('rating', r.rating, 'body', r.body,
        'author', (select json_build_object('name', u.name) from app_user u where u.id = r.author_id))
        order by r.created_at desc, r.id desc), '[]')
      from (select * from review where item_id = i.id order by created_at desc, id desc limit 3) r)
  ) order by i.id)) from (select * from item order by id limit 20) i";

const Q3_SQL: &str = "select json_build_object('items', json_agg(json_build_object(
    'id', i.id::text, 'name', i.name, 'description', i.description, 'priceCents', i.price_cents,
    'openedOn', i.opened_on::text, 'updatedAt', to_char(i.updated_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),
    'category', (select json_build_object('name', c.name) from category c where c.id = i.category_id)
  ) order by i.id)) from (select * from item order by id limit 500) i";

#[test]
fn app_serves_the_golden_operation() {
    run(async {
        let client = sql().await;
        let (q2, q3) = (sql_json(&client, Q2_SQL).await, sql_json(&client, Q3_SQL).await);
        for settings in [&[][..], &[("LOADER", "off")], &[("MASTER", "none")], &[("TIER", "floor")]] {
            let server = Server::start(settings).await;
            assert_eq!(server.data(Q2).await, q2, "{settings:?}");
            assert_eq!(server.data(Q3).await, q3, "{settings:?}");
        }
    });
}

#[test]
fn floor_and_mainstream_answer_the_same_bytes() {
    run(async {
        let (floor, mainstream) = (Server::start(&[("TIER", "floor")]).await, Server::start(&[]).await);
        for query in [Q1, Q2, Q3] {
            let (floor, mainstream) =
                (floor.query(query, Value::Null).await, mainstream.query(query, Value::Null).await);
            assert_eq!(floor.body, mainstream.body, "{query}");
            assert_eq!(floor.headers["content-type"], mainstream.headers["content-type"]);
        }
        let other = floor.query("{ areas { id } }", Value::Null).await;
        assert_eq!((other.status.as_u16(), other.code().as_str()), (501, "NOT_IN_THIS_TIER"));
        let spaced = floor.query(&Q1.replace(' ', "\n,  "), Value::Null).await;
        assert_eq!(spaced.status, StatusCode::OK, "white space and commas mean nothing");
    });
}

/// The statements that `queries` add to what was sent at start, sorted by name.
async fn sent(server: &Server, query: &str) -> Vec<(String, u64)> {
    let before = server.statements().await;
    server.data(query).await;
    let mut after = server.statements().await;
    for (name, count) in &mut after {
        *count -= before.iter().find(|(known, _)| known == name).map_or(0, |(_, count)| *count);
    }
    after.retain(|(_, count)| *count > 0);
    after
}

fn counts(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

#[test]
fn a_level_sends_one_statement_per_loader() {
    run(async {
        let server = Server::start(&[]).await;
        let q2 = counts(&[("categories_by_ids", 1), ("items", 1), ("reviews_by_item_ids", 1), ("users_by_ids", 1)]);
        assert_eq!(sent(&server, Q2).await, q2);
        let owners = "{ items(first: 50) { owner { name } editor { name } } }";
        assert_eq!(sent(&server, owners).await, counts(&[("items", 1), ("users_by_ids", 1)]));
        let firsts = "{ items(first: 9) { a: reviews(first: 1) { id } b: reviews(first: 2) { id } } }";
        assert_eq!(sent(&server, firsts).await, counts(&[("items", 1), ("reviews_by_item_ids", 2)]));
        let twice = "{ items(first: 3) { id } ...F } fragment F on Query { items(first: 3) { name } }";
        assert_eq!(sent(&server, twice).await, counts(&[("items", 1)]), "one field selected twice");
        let deep = "{ item(id: 1) { reviews { author { reviews { item { category { items { reviewStats { count } } } } } } } } }";
        let expected = counts(&[
            ("categories_by_ids", 1),
            ("items_by_category_ids", 1),
            ("items_by_ids", 2),
            ("review_stats_by_item_ids", 1),
            ("reviews_by_item_ids", 1),
            ("reviews_by_user_ids", 1),
            ("users_by_ids", 1),
        ]);
        assert_eq!(sent(&server, deep).await, expected);
        let unknown = "{ item(id: 99999999999) { id } items(after: \"99999999999\") { id } items2: items(areaId: 99999999999) { id } }";
        assert_eq!(sent(&server, unknown).await, [], "an id beyond 32 bits is not looked up");
        let naive = Server::start(&[("LOADER", "off")]).await;
        let items = counts(&[("categories_by_ids", 2), ("items", 1)]);
        assert_eq!(sent(&naive, "{ items(first: 2) { category { name } } }").await, items);
    });
}

#[test]
fn statements_stay_exact_under_concurrency() {
    run(async {
        let server = Server::start(&[]).await;
        let before = server.statements().await;
        let body = json!({ "query": Q2 }).to_string();
        let expected = server.post(body.clone()).await.body;
        let answers = futures_util::future::join_all((0..63).map(|_| server.post(body.clone()))).await;
        assert!(answers.iter().all(|answer| answer.body == expected));
        for (name, count) in server.statements().await {
            let before = before.iter().find(|(known, _)| *known == name).map_or(0, |(_, count)| *count);
            let expected =
                if ["categories_by_ids", "items", "reviews_by_item_ids", "users_by_ids"].contains(&name.as_str()) {
                    64
                } else {
                    0
                };
            assert_eq!(count - before, expected, "{name}");
        }
    });
}

#[test]
fn errors_carry_the_whole_path() {
    run(async {
        let server = Server::start(&[]).await;
        let answer = server.query("{ items(first: 2) { id reviews(first: 501) { id } } }", Value::Null).await;
        assert_eq!(answer.status, StatusCode::OK);
        let answer = answer.json();
        assert_eq!(answer["data"], Value::Null);
        assert_eq!(answer["errors"][0]["path"], json!(["items", 0, "reviews"]));
        let nullable = "query($n: Int) { items(first: 1) { id category { a: items(first: $n) { id } } } }";
        let answer = server.query(nullable, json!({ "n": null })).await.json();
        assert_eq!(answer["data"], json!({ "items": [{ "id": "1", "category": null }] }));
        assert_eq!(answer["errors"][0]["path"], json!(["items", 0, "category", "a"]));
        assert_eq!(answer["errors"][0]["message"], "Argument \"first\" must not be null.");
        let left_out = server.query(nullable, json!({})).await.json();
        assert_eq!(
            left_out["data"]["items"][0]["category"]["a"].as_array().map(Vec::len),
            Some(5),
            "the argument's default"
        );
    });
}

/// The area of id 2.
async fn area(server: &Server) -> Value {
    server.data("{ areas { id name } }").await["areas"][1].clone()
}

#[test]
fn mutations_write_and_are_seen() {
    run(async {
        let client = sql().await;
        let (server, other) = (Server::start(&[]).await, Server::start(&[]).await);
        let add = "mutation($i: AddReviewInput!) { addReview(input: $i) { __typename \
                   ... on ReviewAdded { review { rating body author { id } item { id reviews(first: 1) { body } } } } \
                   ... on ItemNotFound { itemId } ... on AuthorNotFound { authorId } } }";
        let input = |item: Value, author: Value, body: &str| json!({ "i": { "itemId": item, "authorId": author, "rating": 4, "body": body } });
        let added = server.query(add, input(json!("7"), json!(3), "first 🏝️")).await.json();
        let review = json!({ "rating": 4, "body": "first 🏝️", "author": { "id": "3" },
            "item": { "id": "7", "reviews": [{ "body": "first 🏝️" }] } });
        assert_eq!(added["data"]["addReview"], json!({ "__typename": "ReviewAdded", "review": review }));
        let in_order = "mutation { a: addReview(input: { itemId: 7, authorId: 3, rating: 1, body: \"a\" }) { ...R } \
             b: addReview(input: { itemId: 7, authorId: 3, rating: 1, body: \"b\" }) { ...R } } \
             fragment R on ReviewAdded { review { item { reviews(first: 1) { body } } } }";
        let data = server.data(in_order).await;
        for name in ["a", "b"] {
            assert_eq!(data[name]["review"]["item"]["reviews"][0]["body"], name, "each sees what it wrote");
        }
        let rows = client
            .execute("delete from review where item_id = 7 and body = any(array['first 🏝️', 'a', 'b'])", &[])
            .await;
        assert_eq!(rows.expect("rows to delete"), 3);
        let cases = [
            (
                json!("99999999999"),
                json!("88888888888"),
                json!({ "__typename": "ItemNotFound", "itemId": "99999999999" }),
            ),
            (json!(7), json!("88888888888"), json!({ "__typename": "AuthorNotFound", "authorId": "88888888888" })),
        ];
        for (item, author, expected) in cases {
            assert_eq!(server.query(add, input(item, author, "x")).await.json()["data"]["addReview"], expected);
        }

        let before = area(&server).await;
        let renamed = server.data("mutation { renameArea(id: 2, name: \" \\t new name \\r\\n\") { id name } }").await;
        assert_eq!(renamed["renameArea"], json!({ "id": "2", "name": "new name" }));
        assert_eq!(area(&server).await["name"], "new name", "its own process at once");
        for _ in 0..200 {
            if area(&other).await["name"] == "new name" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(area(&other).await["name"], "new name", "the other process by NOTIFY");
        // Also after the connection that listens was lost, and with it what was announced.
        let lost = "select count(pg_terminate_backend(pid)) from pg_stat_activity where query ilike 'listen %' and datname = current_database()";
        client.query_one(lost, &[]).await.expect("connections to end");
        client.execute("update area set name = $1 where id = 2", &[&before["name"].as_str()]).await.expect("an update");
        for server in [&server, &other] {
            for _ in 0..500 {
                if area(server).await == before {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(area(server).await, before, "after the listening connection was lost");
        }
        let unknown = server.data("mutation { renameArea(id: 4000000, name: \"x\") { id } }").await;
        assert_eq!(unknown["renameArea"], Value::Null);
    });
}

/// How often the areas were read.
async fn readings_of_areas(server: &Server) -> u64 {
    let statements = server.statements().await;
    statements.into_iter().find(|(name, _)| name == "areas").map_or(0, |(_, count)| count)
}

#[test]
fn areas_are_renamed_and_read_in_turn() {
    run(async {
        let server = Server::start(&[("REQUEST_TIMEOUT", "30s")]).await;
        let (mut blocker, client) = (sql().await, sql().await);
        let names = "select json_build_array((select name from area where id = 4), \
                     (select name from area where id = 5), (select name from genre where id = 4))";
        let before = sql_json(&client, names).await;
        let master = &server.app.environment.master;
        let name = |row: Option<std::sync::Arc<rust_server::store::Named>>| row.expect("a row").name.to_string();
        let readings = readings_of_areas(&server).await;
        let transaction = blocker.transaction().await.expect("a transaction");
        transaction.batch_execute("update area set name = 'theirs' where id = 4").await.expect("an update");
        let renamed = server.data("mutation { renameArea(id: 4, name: \"ours\") { name } }");
        let meanwhile = async {
            let waiting = "select count(*) from pg_stat_activity where datname = current_database() \
                           and application_name = 'rust-server' and wait_event_type = 'Lock'";
            while client.query_one(waiting, &[]).await.expect("a count").get::<_, i64>(0) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            client.batch_execute("update area set name = 'meanwhile' where id = 5").await.expect("an update");
            client.batch_execute("update genre set name = 'meanwhile' where id = 4").await.expect("an update");
            for _ in 0..500 {
                if name(master.genre(4)) == "meanwhile" {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(name(master.genre(4)), "meanwhile", "other tables are read");
            // An older name would be put over a newer one, for good, were the areas read while one of them is renamed.
            assert_eq!(readings_of_areas(&server).await, readings);
            transaction.commit().await.expect("a commit");
        };
        let (renamed, ()) = tokio::join!(renamed, meanwhile);
        assert_eq!(renamed["renameArea"]["name"], "ours");
        assert_eq!(name(master.area(4)), "ours");
        for _ in 0..500 {
            if name(master.area(5)) == "meanwhile" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!((name(master.area(4)).as_str(), name(master.area(5)).as_str()), ("ours", "meanwhile"));
        let updates = [
            "update area set name = $1 where id = 4",
            "update area set name = $1 where id = 5",
            "update genre set name = $1 where id = 4",
        ];
        for (at, update) in updates.into_iter().enumerate() {
            client.execute(update, &[&before[at].as_str()]).await.expect("an update");
        }
    });
}

#[test]
fn master_data_that_nobody_reads_is_not_kept() {
    run(async {
        let server = Server::start(&[("MASTER", "none")]).await;
        let master = &server.app.environment.master;
        assert!(master.areas().is_empty() && master.genres().is_empty() && master.holidays().is_empty());
        assert!(!master.item_vectors().item_ids.is_empty());
        let read: Vec<String> = server.statements().await.into_iter().map(|(name, _)| name).collect();
        assert_eq!(read, ["item_vectors"]);
    });
}

#[test]
fn what_a_whole_hash_in_redis_does_not_have_is_looked_up() {
    let address = std::env::var("TEST_REDIS_URL").unwrap_or_default();
    if address.is_empty() {
        assert!(std::env::var("CI").is_err(), "TEST_REDIS_URL is not set");
        return;
    }
    run(async move {
        let server = Server::start(&[("MASTER", "redis"), ("REDIS_URL", address.as_str())]).await;
        let client = redis::Client::open(address.as_str()).expect("an address");
        let mut connection = client.get_multiplexed_async_connection().await.expect("Redis answers");
        // As if it had been made a moment ago, and nothing been heard of it yet.
        let key = format!("{}area", prefix(&database_url()));
        let taken: i64 = redis::cmd("HDEL").arg(&key).arg("3").query_async(&mut connection).await.expect("an answer");
        assert_eq!(taken, 1);
        let session = server.app.store.primary(None);
        let rows = server.app.environment.master.by_ids(&session, Table::Area, &[2, 3]).await.expect("rows");
        let found: Value = rows.iter().map(|row| json!({ "id": row.id, "name": &*row.name })).collect();
        let select = "select json_agg(json_build_object('id', id, 'name', name) order by id) \
                      from area where id in (2, 3)";
        assert_eq!(found, sql_json(&sql().await, select).await);
        let sent = server.statements().await;
        assert!(sent.contains(&("areas_by_ids".to_owned(), 1)), "{sent:?}");
        let there: i64 =
            redis::cmd("HEXISTS").arg(&key).arg("3").query_async(&mut connection).await.expect("an answer");
        assert_eq!(there, 0, "it is not put there");
    });
}

#[test]
fn a_late_request_ends_its_statements() {
    run(async {
        let server = Server::start(&[("REQUEST_TIMEOUT", "3s"), ("POOL_SIZE", "1")]).await;
        let mut client = sql().await;
        let transaction = client.transaction().await.expect("a transaction");
        transaction.batch_execute("lock table genre in access exclusive mode").await.expect("a lock");
        let answer = server.query("{ search(text: \"Area\") { id } }", Value::Null).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (504, "REQUEST_TIMEOUT"));
        assert_eq!(answer.json()["errors"][0]["message"], "Request took longer than 3000 ms.");
        let waiting =
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        let mut left = 1;
        for _ in 0..100 {
            left = transaction.query_one(waiting, &[]).await.expect("a count").get::<_, i64>(0);
            if left == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(left, 0, "the statement ends within a second though the lock is still held");
        // The pool has one connection: the next request must find a sound one.
        assert_eq!(server.data("{ items(first: 1) { id } }").await, json!({ "items": [{ "id": "1" }] }));
        transaction.rollback().await.expect("a rollback");
        server.data("{ search(text: \"Area\") { id } }").await;
    });
}

#[test]
fn dead_connections_are_replaced() {
    run(async {
        let server = Server::start(&[]).await;
        let client = sql().await;
        let end = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                   where application_name = 'rust-server' and datname = current_database()";
        client.query_one(end, &[]).await.expect("connections to end");
        let mut answer = server.query(Q1, Value::Null).await;
        for _ in 0..100 {
            if answer.status == StatusCode::OK {
                break;
            }
            assert_eq!(answer.code(), "SERVICE_UNAVAILABLE");
            assert!(answer.headers.contains_key("retry-after"));
            answer = server.query(Q1, Value::Null).await;
        }
        assert_eq!(answer.status, StatusCode::OK);
    });
}

#[test]
fn without_a_database_it_says_so() {
    run(async {
        let server = Server::unready(&[("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")]).await;
        assert_eq!(server.get("/livez").await.status, StatusCode::OK);
        let ready = server.get("/readyz").await;
        assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ready.json()["status"], "master data not loaded");
        let answer = server.query(Q1, Value::Null).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "SERVICE_UNAVAILABLE"));
        assert!(answer.headers.contains_key("retry-after"));
    });
}

#[test]
fn ranking_is_what_sql_says() {
    run(async {
        let weights: Vec<i32> = (0..32).map(|n| (n * 397) % 2001 - 1000).collect();
        let list = weights.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
        let server = Server::start(&[]).await;
        let client = sql().await;
        for (filter, argument) in [("true", ""), ("i.area_id = 3", ", areaId: 3")] {
            let select = format!(
                "select json_agg(json_build_object('score', score, 'item', json_build_object('id', id::text)) order by score desc, id) \
                 from (select i.id, (select sum(w * (get_byte(v.features, n::int - 1) - case when get_byte(v.features, n::int - 1) > 127 then 256 else 0 end)) \
                   from unnest(array[{list}]) with ordinality as t (w, n)) as score \
                 from item_vector v join item i on i.id = v.item_id where {filter} order by score desc, i.id limit 7) best"
            );
            let ranked = server
                .data(&format!("{{ ranking(weights: [{list}], first: 7{argument}) {{ score item {{ id }} }} }}"))
                .await;
            assert_eq!(ranked["ranking"], sql_json(&client, &select).await, "{filter}");
        }
    });
}

#[test]
fn business_days_are_what_sql_says() {
    run(async {
        let server = Server::start(&[]).await;
        let client = sql().await;
        for (from, days) in
            [("2026-02-27", 1), ("2026-12-23", 5), ("2026-02-28", 0), ("2026-01-01", 300), ("1999-12-31", 40)]
        {
            let select = format!(
                "select to_json(day::date::text) from (select day, row_number() over (order by day) as n \
                 from generate_series(date '{from}' + 1, date '{from}' + 4000, interval '1 day') day \
                 where extract(isodow from day) < 6 and day not in (select day from holiday)) d where n = {days}"
            );
            let expected = if days == 0 { json!(from) } else { sql_json(&client, &select).await };
            let data = server.data(&format!("{{ businessDay(from: \"{from}\", days: {days}) }}")).await;
            assert_eq!(data["businessDay"], expected, "{from} + {days}");
        }
    });
}

#[test]
fn quote_asks_the_outside_service() {
    run(async {
        let stub = axum::Router::new().route(
            "/quote",
            axum::routing::get(async |request: axum::extract::Request| match request.uri().query() {
                Some("itemId=5&guests=2") => (StatusCode::OK, r#"{"totalCents":12345,"currency":"EUR"}"#),
                Some("itemId=6&guests=2") => (StatusCode::OK, "not JSON"),
                _ => (StatusCode::NOT_FOUND, "{}"),
            }),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, stub).await });
        let server = Server::start(&[("UPSTREAM_URL", &url)]).await;
        let data = server.data("{ quote(itemId: 5, guests: 2) { itemId guests totalCents currency } }").await;
        assert_eq!(data["quote"], json!({ "itemId": "5", "guests": 2, "totalCents": 12345, "currency": "EUR" }));
        for id in [6, 7] {
            let answer =
                server.query(&format!("{{ quote(itemId: {id}, guests: 2) {{ currency }} }}"), Value::Null).await;
            assert_eq!((answer.status, answer.code().as_str()), (StatusCode::OK, "UPSTREAM_FAILED"));
            assert_eq!(answer.json()["data"], Value::Null);
        }
    });
}

#[test]
fn shutting_down_finishes_what_is_under_way() {
    run(async {
        let server = Server::start(&[]).await;
        let mut client = sql().await;
        let transaction = client.transaction().await.expect("a transaction");
        transaction.batch_execute("lock table holiday, category in access exclusive mode").await.expect("a lock");
        let slow = server.query("{ categories { id } }", Value::Null);
        let end = async {
            let waiting =
                "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
            while transaction.query_one(waiting, &[]).await.expect("a count").get::<_, i64>(0) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            server.shut_down();
            transaction.rollback().await.expect("a rollback");
        };
        let (answer, ()) = tokio::join!(slow, end);
        assert_eq!(answer.status, StatusCode::OK);
        server.ended.await.expect("the listener ends");
    });
}

#[test]
fn master_data_in_bulk_is_in_memory() {
    run(async {
        let server = Server::start(&[("MASTER_MB", "1")]).await;
        let page = server.get("/metrics").await;
        let text = std::str::from_utf8(&page.body).expect("text");
        assert!(text.contains("\nlab_master_text_bytes 1048576\n"));

        // More than the database has: nobody would know what is measured.
        let short = Master::new(MasterSource::Memory, None, 2);
        let failure =
            short.load_master(&server.app.store.primary(None), Start::Concurrent).await.expect_err("too few rows");
        let cause = format!("{:?}", failure.cause());
        assert!(cause.contains("master_texts: the database has 1024 of 2048 rows"), "{cause}");
    });
}
