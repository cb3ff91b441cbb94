-- Loader of Item.reviews. $1 item ids, $2 first.
select r.id, r.item_id, r.author_id, r.rating, r.body, r.created_at
from unnest($1::int4[]) with ordinality as k (item_id, n)
cross join lateral (
  select id, item_id, author_id, rating, body, created_at
  from review where review.item_id = k.item_id order by created_at desc, id desc limit $2::int4
) r
order by k.n, r.created_at desc, r.id desc
