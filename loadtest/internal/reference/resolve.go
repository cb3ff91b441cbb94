package reference

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// What resolvers hand on where no row does.
type (
	itemNotFound   struct{ id string }
	authorNotFound struct{ id string }
	ranked         struct {
		score int32
		item  *item
	}
	quote struct {
		itemID     string
		guests     int32
		totalCents int32
	}
)

// identifier is a checked id: one beyond 32 bits is not looked up.
type identifier struct {
	text string
	id   int32
	fits bool
}

// resolve gives the value of one field of the contract's types or of introspection's.
func (x *execution) resolve(typeName, fieldName string, source any, arguments map[string]any, at *position) (any, error) {
	if strings.HasPrefix(typeName, "__") {
		return x.resolveIntrospection(typeName, fieldName, source, arguments)
	}
	if err := checkStrings(arguments); err != nil {
		return nil, err
	}
	switch row := source.(type) {
	case nil:
		if typeName == "Mutation" {
			return x.resolveMutation(fieldName, arguments, at)
		}
		return x.resolveQuery(fieldName, arguments, at)
	case *named:
		switch fieldName {
		case "id":
			return idText(row.id), nil
		case "name":
			return row.name, nil
		case "items": // of a Category
			first, err := x.first(arguments, x.limits.PageSize)
			if err != nil {
				return nil, err
			}
			x.recorder.load(at, loader{statement: "items_by_category_ids", first: first}, row.id)
			return listOf(upTo(x.data.itemsByCategory[row.id], first)), nil
		}
	case *item:
		return x.resolveItem(row, fieldName, arguments, at)
	case *user:
		switch fieldName {
		case "id":
			return idText(row.id), nil
		case "name":
			return row.name, nil
		case "reviews":
			first, err := x.first(arguments, x.limits.PageSize)
			if err != nil {
				return nil, err
			}
			x.recorder.load(at, loader{statement: "reviews_by_user_ids", first: first}, row.id)
			return listOf(upTo(x.data.reviewsByUser[row.id], first)), nil
		}
	case *review:
		if typeName == "ReviewAdded" {
			return row, nil // its one field is the review
		}
		return x.resolveReview(row, fieldName, at)
	case reviewStats:
		switch fieldName {
		case "count":
			return row.count, nil
		case "average":
			if row.average == nil {
				return nil, nil
			}
			return *row.average, nil
		}
	case ranked:
		switch fieldName {
		case "score":
			return row.score, nil
		case "item":
			x.recorder.load(at, loader{statement: "items_by_ids"}, row.item.id)
			return row.item, nil
		}
	case quote:
		switch fieldName {
		case "itemId":
			return row.itemID, nil
		case "guests":
			return row.guests, nil
		case "totalCents":
			return row.totalCents, nil
		case "currency":
			return "EUR", nil
		}
	case itemNotFound:
		return row.id, nil
	case authorNotFound:
		return row.id, nil
	}
	return nil, fmt.Errorf("no resolver for %s.%s", typeName, fieldName)
}

func (x *execution) resolveItem(row *item, fieldName string, arguments map[string]any, at *position) (any, error) {
	switch fieldName {
	case "id":
		return idText(row.id), nil
	case "name":
		return row.name, nil
	case "description":
		if row.description == nil {
			return nil, nil
		}
		return *row.description, nil
	case "priceCents":
		return row.priceCents, nil
	case "openedOn":
		return row.openedOn, nil
	case "updatedAt":
		return row.updatedAt, nil
	case "category":
		if row.categoryID == nil {
			return nil, nil
		}
		x.recorder.load(at, loader{statement: "categories_by_ids"}, *row.categoryID)
		return rowOrNull(x.data.categoryByID[*row.categoryID]), nil
	case "area":
		x.recorder.load(at, loader{statement: "areas_by_ids", when: masterNone}, row.areaID)
		return rowOrNull(x.data.areaByID[row.areaID]), nil
	case "genre":
		x.recorder.load(at, loader{statement: "genres_by_ids", when: masterNone}, row.genreID)
		return rowOrNull(x.data.genreByID[row.genreID]), nil
	case "owner":
		return x.user(row.ownerID, at), nil
	case "editor":
		return x.user(row.editorID, at), nil
	case "reviews":
		first, err := x.first(arguments, x.limits.PageSize)
		if err != nil {
			return nil, err
		}
		x.recorder.load(at, loader{statement: "reviews_by_item_ids", first: first}, row.id)
		return listOf(upTo(x.data.reviewsByItem[row.id], first)), nil
	case "reviewStats":
		x.recorder.load(at, loader{statement: "review_stats_by_item_ids"}, row.id)
		return x.data.statsByItem[row.id], nil
	}
	return nil, fmt.Errorf("no resolver for Item.%s", fieldName)
}

func (x *execution) resolveReview(row *review, fieldName string, at *position) (any, error) {
	switch fieldName {
	case "id":
		return idText(row.id), nil
	case "rating":
		return row.rating, nil
	case "body":
		return row.body, nil
	case "createdAt":
		if row.createdAt == "" {
			x.unforeseeable = errors.New("createdAt of a review that was just added")
		}
		return row.createdAt, nil
	case "author":
		return x.user(&row.authorID, at), nil
	case "item":
		x.recorder.load(at, loader{statement: "items_by_ids"}, row.itemID)
		return rowOrNull(x.data.itemByID[row.itemID]), nil
	}
	return nil, fmt.Errorf("no resolver for Review.%s", fieldName)
}

func (x *execution) user(id *int32, at *position) any {
	if id == nil {
		return nil
	}
	x.recorder.load(at, loader{statement: "users_by_ids"}, *id)
	return rowOrNull(x.data.userByID[*id])
}

func (x *execution) resolveQuery(fieldName string, arguments map[string]any, at *position) (any, error) {
	switch fieldName {
	case "__schema":
		return x.schema, nil
	case "__type":
		return x.typeNamed(arguments["name"].(string)), nil
	case "items":
		return x.resolveItems(arguments, at)
	case "item":
		id, err := identifierOf(arguments["id"].(string))
		if err != nil || !id.fits {
			return nil, err
		}
		x.recorder.load(at, loader{statement: "items_by_ids"}, id.id)
		return rowOrNull(x.data.itemByID[id.id]), nil
	case "categories":
		x.recorder.run(at, "categories", always)
		return listOf(x.data.categories), nil
	case "areas":
		x.recorder.run(at, "areas", masterNone)
		return listOf(x.data.areas), nil
	case "genres":
		x.recorder.run(at, "genres", masterNone)
		return listOf(x.data.genres), nil
	case "search":
		first, err := x.first(arguments, x.limits.PageSize)
		if err != nil {
			return nil, err
		}
		x.recorder.run(at, "search", always)
		text := arguments["text"].(string)
		var found []any
		for _, rows := range [][]*named{x.data.areas, x.data.genres, x.data.categories} {
			for _, row := range rows {
				if strings.HasPrefix(row.name, text) {
					found = append(found, row)
				}
			}
		}
		for _, row := range x.data.items {
			if strings.HasPrefix(row.name, text) {
				found = append(found, row)
			}
		}
		return listOf(upTo(found, first)), nil
	case "ranking":
		return x.resolveRanking(arguments)
	case "businessDay":
		days := arguments["days"].(int32)
		if days < 0 || int(days) > x.limits.BusinessDays {
			return nil, badUserInput
		}
		if days == 0 { // nothing to walk: a server need not even look at the table
			x.recorder.mayRun(at, "holidays", masterNone)
		} else {
			x.recorder.run(at, "holidays", masterNone)
		}
		return x.data.businessDay(arguments["from"].(string), days)
	case "quote":
		id, err := identifierOf(arguments["itemId"].(string))
		if err != nil {
			return nil, err
		}
		guests := arguments["guests"].(int32)
		if guests < 1 || guests > 100 {
			return nil, badUserInput
		}
		if !id.fits || x.data.itemByID[id.id] == nil {
			return nil, fieldError{"UPSTREAM_FAILED"}
		}
		return quote{itemID: id.text, guests: guests, totalCents: int32((int64(id.id)*37%9000 + 1000)) * guests}, nil
	}
	return nil, fmt.Errorf("no resolver for Query.%s", fieldName)
}

func (x *execution) resolveItems(arguments map[string]any, at *position) (any, error) {
	first, err := x.first(arguments, x.limits.PageSize)
	if err != nil {
		return nil, err
	}
	statement := "items"
	after := identifier{fits: true}
	var area, genre identifier
	for _, given := range []struct {
		argument string
		into     *identifier
		suffix   string
	}{{"after", &after, ""}, {"areaId", &area, "_by_area"}, {"genreId", &genre, "_by_genre"}} {
		text, ok := arguments[given.argument].(string)
		if !ok {
			continue // not given, or null
		}
		if *given.into, err = identifierOf(text); err != nil {
			return nil, err
		}
		statement += given.suffix
	}
	if statement == "items_by_area_by_genre" {
		statement = "items_by_area_and_genre"
	}
	for _, id := range []identifier{after, area, genre} {
		if id.text != "" && !id.fits {
			return []any{}, nil
		}
	}
	x.recorder.run(at, statement, always)
	var found []*item
	for _, row := range x.data.items {
		if row.id > after.id && (area.text == "" || row.areaID == area.id) && (genre.text == "" || row.genreID == genre.id) {
			found = append(found, row)
		}
	}
	return listOf(upTo(found, first)), nil
}

func (x *execution) resolveRanking(arguments map[string]any) (any, error) {
	first, err := x.first(arguments, x.limits.RankingSize)
	if err != nil {
		return nil, err
	}
	var weights []int32
	for _, given := range arguments["weights"].([]any) {
		weight := given.(int32)
		if weight < -1000 || weight > 1000 {
			return nil, badUserInput
		}
		weights = append(weights, weight)
	}
	if len(weights) != 32 {
		return nil, badUserInput
	}
	var area identifier
	if text, ok := arguments["areaId"].(string); ok {
		if area, err = identifierOf(text); err != nil {
			return nil, err
		}
		if !area.fits {
			return []any{}, nil
		}
	}
	var scored []ranked
	for _, row := range x.data.items { // by ascending id, and the sort is stable: ties go to the lower id
		if row.features == nil || (area.text != "" && row.areaID != area.id) {
			continue
		}
		entry := ranked{item: row}
		for f, weight := range weights {
			entry.score += weight * int32(row.features[f])
		}
		scored = append(scored, entry)
	}
	slices.SortStableFunc(scored, func(a, b ranked) int { return int(b.score) - int(a.score) })
	return listOf(upTo(scored, first)), nil
}

func (x *execution) resolveMutation(fieldName string, arguments map[string]any, at *position) (any, error) {
	switch fieldName {
	case "addReview":
		input := arguments["input"].(map[string]any)
		itemID, err := identifierOf(input["itemId"].(string))
		if err != nil {
			return nil, err
		}
		authorID, err := identifierOf(input["authorId"].(string))
		if err != nil {
			return nil, err
		}
		rating, body := input["rating"].(int32), input["body"].(string)
		if length := utf8.RuneCountInString(body); rating < 1 || rating > 5 || length < 1 || length > 2000 {
			return nil, badUserInput
		}
		x.recorder.run(at, "add_review", always)
		if !itemID.fits || x.data.itemByID[itemID.id] == nil {
			return itemNotFound{itemID.text}, nil
		}
		if !authorID.fits || x.data.userByID[authorID.id] == nil {
			return authorNotFound{authorID.text}, nil
		}
		return x.data.addReview(itemID.id, authorID.id, rating, body), nil
	case "renameArea":
		id, err := identifierOf(arguments["id"].(string))
		if err != nil {
			return nil, err
		}
		name := strings.Trim(arguments["name"].(string), " \t\r\n")
		if length := utf8.RuneCountInString(name); length < 1 || length > 200 {
			return nil, badUserInput
		}
		if !id.fits {
			return nil, nil
		}
		x.recorder.run(at, "rename_area", always)
		x.recorder.mayRun(at, "areas", always) // who hears of the change reads the table anew
		return rowOrNull(x.data.renameArea(id.id, name)), nil
	}
	return nil, fmt.Errorf("no resolver for Mutation.%s", fieldName)
}

// businessDay walks day by day.
func (d *Data) businessDay(from string, days int32) (string, error) {
	day, err := time.Parse(time.DateOnly, from)
	if err != nil {
		return "", err
	}
	for days > 0 {
		day = day.AddDate(0, 0, 1)
		if weekday := day.Weekday(); weekday != time.Saturday && weekday != time.Sunday && !d.holidays[day.Format(time.DateOnly)] {
			days--
		}
	}
	if day.Year() > 9999 {
		return "", badUserInput // Date has no way to say it
	}
	return day.Format(time.DateOnly), nil
}

// first checks the argument first.
func (x *execution) first(arguments map[string]any, most int) (int32, error) {
	first := arguments["first"].(int32)
	if first < 0 || int(first) > most {
		return 0, badUserInput
	}
	return first, nil
}

// checkStrings refuses U+0000 anywhere.
func checkStrings(value any) error {
	switch v := value.(type) {
	case string:
		if strings.ContainsRune(v, 0) {
			return badUserInput
		}
	case []any:
		for _, element := range v {
			if err := checkStrings(element); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, element := range v {
			if err := checkStrings(element); err != nil {
				return err
			}
		}
	}
	return nil
}

// identifierOf checks an id: 0|[1-9][0-9]*.
func identifierOf(text string) (identifier, error) {
	if text == "" || (len(text) > 1 && text[0] == '0') || strings.Trim(text, "0123456789") != "" {
		return identifier{}, badUserInput
	}
	n, err := strconv.ParseInt(text, 10, 32)
	return identifier{text: text, id: int32(n), fits: err == nil}, nil
}

func idText(id int32) string { return strconv.Itoa(int(id)) }

// upTo gives the first n elements, or all if there are fewer.
func upTo[T any](rows []T, n int32) []T { return rows[:min(int(n), len(rows))] }

func listOf[T any](rows []T) []any {
	list := make([]any, len(rows))
	for i, row := range rows {
		list[i] = row
	}
	return list
}

// rowOrNull keeps a nil pointer from becoming a value that is not nil.
func rowOrNull[T any](row *T) any {
	if row == nil {
		return nil
	}
	return row
}
