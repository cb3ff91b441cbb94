-- Loader of Item.category. $1 ids. Rows come in no particular order.
select id, name from category where id = any($1::int4[])
