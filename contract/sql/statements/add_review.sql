-- Mutation.addReview, on the primary. $1 item, $2 author, $3 rating, $4 body. Always one row; the columns from id on
-- are null where the item or the author is missing, and nothing was written then.
with
  i as (select id from item where id = $1::int4),
  u as (select id from app_user where id = $2::int4),
  r as (
    insert into review (item_id, author_id, rating, body, created_at)
    select i.id, u.id, $3::int4, $4::text, date_trunc('milliseconds', now()) from i cross join u
    returning id, item_id, author_id, rating, body, created_at
  )
select exists (select from i) as item_found, exists (select from u) as author_found,
  r.id, r.item_id, r.author_id, r.rating, r.body, r.created_at
from (select) one left join r on true
