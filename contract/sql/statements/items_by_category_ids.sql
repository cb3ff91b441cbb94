-- Loader of Category.items. $1 category ids, $2 first.
select i.id, i.name, i.description, i.price_cents, i.opened_on, i.updated_at, i.category_id, i.area_id, i.genre_id, i.owner_id, i.editor_id
from unnest($1::int4[]) with ordinality as k (category_id, n)
cross join lateral (
  select id, name, description, price_cents, opened_on, updated_at, category_id, area_id, genre_id, owner_id, editor_id
  from item where item.category_id = k.category_id order by id limit $2::int4
) i
order by k.n, i.id
