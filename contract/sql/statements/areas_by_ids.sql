-- Loader of Item.area where MASTER=none. $1 ids. Rows come in no particular order.
select id, name from area where id = any($1::int4[])
