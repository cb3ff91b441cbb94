-- Query.items. $1 after, $2 first.
select id, name, description, price_cents, opened_on, updated_at, category_id, area_id, genre_id, owner_id, editor_id
from item where id > $1::int4 order by id limit $2::int4
