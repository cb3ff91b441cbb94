-- Query.items(genreId). $1 after, $2 first, $3 genre.
select id, name, description, price_cents, opened_on, updated_at, category_id, area_id, genre_id, owner_id, editor_id
from item where genre_id = $3::int4 and id > $1::int4 order by id limit $2::int4
