-- Master data: read at start and after a change; by Query.businessDay where MASTER=none.
select day from holiday order by day
