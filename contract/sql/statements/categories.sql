-- Query.categories.
select id, name from category order by id
