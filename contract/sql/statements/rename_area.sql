-- Mutation.renameArea, on the primary. $1 id, $2 name. No row where there is no such area. A trigger tells every
-- process (channel master_changed).
update area set name = $2::text where id = $1::int4 returning id, name
