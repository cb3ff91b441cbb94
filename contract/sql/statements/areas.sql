-- Master data: read at start and after a change; by Query.areas where MASTER=none.
select id, name from area order by id
