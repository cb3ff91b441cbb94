-- Loader of Item.genre where MASTER=none. $1 ids. Rows come in no particular order.
select id, name from genre where id = any($1::int4[])
