-- Loader of items: Query.item, Review.item, RankedItem.item. $1 ids. Rows come in no particular order.
select id, name, description, price_cents, opened_on, updated_at, category_id, area_id, genre_id, owner_id, editor_id
from item where id = any($1::int4[])
