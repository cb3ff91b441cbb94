-- Master data in bulk, a page at a time: read at start and after a change where MASTER_MB is not 0. $1 the highest id before the
-- page, $2 the highest in it.
select body from master_text where id > $1::int4 and id <= $2::int4 order by id
