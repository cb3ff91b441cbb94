-- Loader of Item.reviewStats. $1 item ids. An item without reviews has no row.
select item_id, count(*)::int4 as review_count, avg(rating)::float8 as average
from review where item_id = any($1::int4[]) group by item_id
