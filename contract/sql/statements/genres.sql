-- Master data: read at start and after a change; by Query.genres where MASTER=none.
select id, name from genre order by id
