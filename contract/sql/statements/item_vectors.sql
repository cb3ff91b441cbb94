-- Master data of Query.ranking, in memory whatever MASTER says: 32 signed bytes an item.
select v.item_id, i.area_id, v.features from item_vector v join item i on i.id = v.item_id order by v.item_id
