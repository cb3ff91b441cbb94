-- Deterministic data: arithmetic alone, no random(), no clock, so that every machine gets the same rows (digest.sql).
-- The size comes from settings that the loader sets before: lab.items, lab.users, lab.reviews, lab.categories,
-- lab.areas, lab.genres (sizes.json).

set time zone 'UTC';

-- A well-spread number from 0 to 2^31 - 1 out of a row's number and a salt: two rounds of multiply, add, fold.
create function pg_temp.spread(n int8, salt int8) returns int8 language sql immutable parallel safe as $$
  select ((((n * 1103515245 + salt * 12345 + 2531011) % 2147483648) # (((n * 1103515245 + salt * 12345 + 2531011) % 2147483648) >> 11))
          * 69069 + salt * 362437 + 907633385) % 2147483648
$$;

-- Every so many names carry what breaks careless code: quotes, backslashes, markup, emoji, right-to-left text,
-- newlines, combining marks, characters beyond the basic plane.
create function pg_temp.odd(n int8) returns text language sql immutable parallel safe as $$
  select case n % 53
    when 1  then ' "quoted" and ''single'''
    when 2  then E' back\\slash / slash'
    when 3  then ' <b>bold</b> & co'
    when 5  then ' 🏝️ 👩‍👩‍👧‍👦'
    when 7  then ' مرحبا بالعالم'
    when 11 then ' שלום עולם'
    when 13 then E'\nsecond line\ttabbed'
    when 17 then ' Zoë naïve e' || U&'\0301'
    when 19 then ' 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 漢字'
    when 23 then ' %_ {}[]$1'
    when 29 then U&' line\2028separator\2029'
    else '' end
$$;

insert into area
  select i, 'Area ' || i || pg_temp.odd(i)
  from generate_series(1, current_setting('lab.areas')::int) i;

insert into genre
  select i, 'Genre ' || i || pg_temp.odd(i + 4)
  from generate_series(1, current_setting('lab.genres')::int) i;

insert into master_text select i, master_text_body(i) from generate_series(1, 1024) i;

-- Holidays from 2024 to 2030: ten fixed days a year and three that wander; some of them fall on weekends.
insert into holiday
  select make_date(y, m, d) from generate_series(2024, 2030) y,
    (values (1, 1), (1, 6), (5, 1), (5, 2), (8, 15), (10, 3), (11, 1), (12, 24), (12, 25), (12, 26)) f (m, d)
  union
  select make_date(y, 3, 20) + ((y * 11) % 33) + k from generate_series(2024, 2030) y, (values (0), (3), (42)) w (k);

insert into category
  select i, 'Category ' || i || pg_temp.odd(i + 9)
  from generate_series(1, current_setting('lab.categories')::int) i;

insert into app_user
  select i, 'User ' || i || ' ' || substr(md5('user ' || i), 1, 8) || pg_temp.odd(i)
  from generate_series(1, current_setting('lab.users')::int) i;

-- Items 1 to 5 have category, owner, reviews and living authors. Beyond them: every 11th item has no category, every
-- 7th no owner, every 5th no editor, every 13th no description, every 97th an owner who is gone.
insert into item
  select i,
    'Item ' || i || ' ' || substr(md5('name ' || i), 1, 10) || pg_temp.odd(i + 30),
    case when i > 5 and i % 13 = 0 then null
         else substr(md5('a' || i) || ' ' || md5('b' || i) || ' ' || md5('c' || i) || md5('d' || i), 1, 100) || pg_temp.odd(i * 7 + 3) end,
    100 + (pg_temp.spread(i, 1) % 99901)::int,
    date '1950-01-01' + (pg_temp.spread(i, 2) % 27000)::int,
    timestamptz '2024-01-01 00:00:00+00' + (pg_temp.spread(i, 3) % 63072000) * interval '1 second' + (pg_temp.spread(i, 4) % 1000) * interval '1 millisecond',
    case when i > 5 and i % 11 = 0 then null else 1 + (i::int8 * 7919 % current_setting('lab.categories')::int)::int end,
    1 + (i::int8 * 104729 % current_setting('lab.areas')::int)::int,
    1 + (i::int8 * 1299709 % current_setting('lab.genres')::int)::int,
    case when i > 5 and i % 97 = 0 then current_setting('lab.users')::int + 1 + i % 10
         when i > 5 and i % 7 = 0 then null
         else 1 + (pg_temp.spread(i, 5) % current_setting('lab.users')::int)::int end,
    case when i > 5 and i % 5 = 0 then null
         when i % 3 = 0 then 1 + (pg_temp.spread(i, 5) % current_setting('lab.users')::int)::int
         else 1 + (pg_temp.spread(i, 6) % current_setting('lab.users')::int)::int end
  from generate_series(1, current_setting('lab.items')::int) i;

insert into item_vector
  select i, decode(string_agg(lpad(to_hex((((pg_temp.spread(i::int8 * 32 + f, 7) % 255) - 127) & 255)::int), 2, '0'), '' order by f), 'hex')
  from generate_series(1, current_setting('lab.items')::int) i, generate_series(0, 31) f
  group by i;

-- Skew: of ten reviews four go to one of ten popular items (6 to 15), five to the first half of the items, one to
-- any; items whose number ends in 9 have none. Every 31st review's author is gone. Times repeat on purpose (ties go to
-- the higher id).
insert into review (id, item_id, author_id, rating, body, created_at)
  select i,
    case when i <= 20 then 1 + (i - 1) % 5
         when t % 10 = 9 then t - 1
         else t end,
    case when t > 5 and i % 31 = 0 then current_setting('lab.users')::int + 1 + i % 100
         when i % 4 = 0 then 1 + (pg_temp.spread(i, 10) % 50)::int
         else 1 + (pg_temp.spread(i, 11) % current_setting('lab.users')::int)::int end,
    1 + (pg_temp.spread(i, 12) % 5)::int,
    substr(md5('r' || i) || ' ' || md5('s' || i) || ' ' || md5('t' || i) || ' ' || md5('u' || i), 1, 20 + (pg_temp.spread(i, 13) % 100)::int) || pg_temp.odd(i),
    timestamptz '2024-01-01 00:00:00+00' + (pg_temp.spread(i / 3, 14) % 10000000) * interval '1 second' + (i % 3 / 2) * interval '5 milliseconds'
  from (
    select i,
      case when pg_temp.spread(i, 8) % 10 < 4 then 6 + pg_temp.spread(i, 9) % 10
           when pg_temp.spread(i, 8) % 10 < 9 then 1 + pg_temp.spread(i, 9) % (current_setting('lab.items')::int / 2)
           else 1 + pg_temp.spread(i, 9) % current_setting('lab.items')::int end::int as t
    from generate_series(1, current_setting('lab.reviews')::int) i
  ) s;

select setval(pg_get_serial_sequence('review', 'id'), current_setting('lab.reviews')::int);

create index item_category on item (category_id, id);
create index item_area on item (area_id, id);
create index item_genre on item (genre_id, id);
create index review_item on review (item_id, created_at desc, id desc);
create index review_author on review (author_id, created_at desc, id desc);
