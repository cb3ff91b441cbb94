-- Query.search. $1 text, $2 first. kind: 1 area, 2 genre, 3 category, 4 item; the columns after name are an item's.
select kind, id, name, description, price_cents, opened_on, updated_at, category_id, area_id, genre_id, owner_id, editor_id
from (
  select 1 as kind, id, name, null::text as description, null::int4 as price_cents, null::date as opened_on,
    null::timestamptz as updated_at, null::int4 as category_id, null::int4 as area_id, null::int4 as genre_id,
    null::int4 as owner_id, null::int4 as editor_id
  from area where starts_with(name, $1::text)
  union all
  select 2, id, name, null, null, null, null, null, null, null, null, null from genre where starts_with(name, $1::text)
  union all
  select 3, id, name, null, null, null, null, null, null, null, null, null from category where starts_with(name, $1::text)
  union all
  select 4, id, name, description, price_cents, opened_on, updated_at, category_id, area_id, genre_id, owner_id, editor_id
  from item where starts_with(name, $1::text)
) named
order by kind, id limit $2::int4
