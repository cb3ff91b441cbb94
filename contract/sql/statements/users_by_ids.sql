-- Loader of users: Item.owner, Item.editor, Review.author. $1 ids. Rows come in no particular order.
select id, name from app_user where id = any($1::int4[])
