-- One line that tells whether two databases hold the same rows: md5 over each table in key order, then over those.
set time zone 'UTC';
set datestyle to 'ISO, YMD';
set bytea_output to 'hex';
select md5(string_agg(d, '|' order by t)) from (
            select 'area' t,        md5(string_agg(x::text, chr(10) order by id)) d from area x
  union all select 'genre',         md5(string_agg(x::text, chr(10) order by id)) from genre x
  union all select 'holiday',       md5(string_agg(x::text, chr(10) order by day)) from holiday x
  union all select 'category',      md5(string_agg(x::text, chr(10) order by id)) from category x
  union all select 'app_user',      md5(string_agg(x::text, chr(10) order by id)) from app_user x
  union all select 'master_text',   md5(string_agg(x::text, chr(10) order by id)) from master_text x
  union all select 'item',          md5(string_agg(x::text, chr(10) order by id)) from item x
  union all select 'item_vector',   md5(string_agg(x::text, chr(10) order by item_id)) from item_vector x
  union all select 'review',        md5(string_agg(x::text, chr(10) order by id)) from review x
) tables;
