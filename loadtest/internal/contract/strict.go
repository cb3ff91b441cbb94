package contract

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"lab/loadtest/internal/locate"
)

// readStrict reads a JSON file into v: every key of v must be there, once, and no other.
func readStrict(file string, v any) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := unmarshalStrict(text, v); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

func unmarshalStrict(text []byte, v any) error {
	scan := json.NewDecoder(bytes.NewReader(text))
	at := func(err error) error { return fmt.Errorf("line %d: %w", locate.Line(text, scan.InputOffset()), err) }
	if err := checkKeys(scan, reflect.TypeOf(v).Elem(), ""); err != nil {
		return at(err)
	}
	if _, err := scan.Token(); !errors.Is(err, io.EOF) {
		return at(errors.New("more than one JSON value"))
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(v); err != nil {
		return locate.JSONError(text, err)
	}
	return nil
}

// checkKeys reads one value and finds keys that are doubled, unknown or missing, which encoding/json lets pass.
func checkKeys(scan *json.Decoder, shape reflect.Type, key string) error {
	token, err := scan.Token()
	if err != nil {
		return fmt.Errorf("is not JSON: %w", err)
	}
	switch token {
	case json.Delim('['):
		for i := 0; scan.More(); i++ {
			var element reflect.Type
			if shape != nil && shape.Kind() == reflect.Slice {
				element = shape.Elem()
			}
			if err := checkKeys(scan, element, fmt.Sprintf("%s[%d]", key, i)); err != nil {
				return err
			}
		}
		_, err = scan.Token()
		return err
	case json.Delim('{'):
		seen := map[string]bool{}
		fields := jsonFields(shape)
		for scan.More() {
			token, err := scan.Token()
			if err != nil {
				return fmt.Errorf("is not JSON: %w", err)
			}
			name := token.(string)
			path := strings.TrimPrefix(key+"."+name, ".")
			if seen[name] {
				return fmt.Errorf("key %q stands twice", path)
			}
			seen[name] = true
			var value reflect.Type
			if fields != nil {
				var ok bool
				if value, ok = fields[name]; !ok {
					return fmt.Errorf("key %q is unknown", path)
				}
			} else if shape != nil && shape.Kind() == reflect.Map {
				value = shape.Elem()
			}
			if err := checkKeys(scan, value, path); err != nil {
				return err
			}
		}
		for name := range fields {
			if !seen[name] {
				return fmt.Errorf("key %q is missing", strings.TrimPrefix(key+"."+name, "."))
			}
		}
		_, err = scan.Token()
		return err
	case nil:
		return fmt.Errorf("key %q is null", key)
	}
	return nil
}

// jsonFields gives the type of each key of a struct, nil for other types.
func jsonFields(shape reflect.Type) map[string]reflect.Type {
	if shape == nil || shape.Kind() != reflect.Struct {
		return nil
	}
	fields := map[string]reflect.Type{}
	for i := range shape.NumField() {
		if tag := shape.Field(i).Tag.Get("json"); tag != "" {
			fields[tag] = shape.Field(i).Type
		}
	}
	return fields
}

// digestFolder gives a SHA-256 over all files of a folder, and one for each entry of its top level. A file whose name
// begins with a dot is no part of it.
func digestFolder(dir string) (whole string, parts map[string]string, err error) {
	all := sha256.New()
	perPart := map[string]hash.Hash{}
	// WalkDir goes in lexical order.
	err = filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if file != dir && strings.HasPrefix(entry.Name(), ".") {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if entry.IsDir() {
			return nil
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		relative = filepath.ToSlash(relative)
		part, _, _ := strings.Cut(relative, "/")
		if perPart[part] == nil {
			perPart[part] = sha256.New()
		}
		for _, sum := range []hash.Hash{all, perPart[part]} {
			fmt.Fprintf(sum, "%s\x00%d\x00", relative, len(content))
			sum.Write(content)
		}
		return nil
	})
	if err != nil {
		return "", nil, err
	}
	parts = make(map[string]string, len(perPart))
	for part, sum := range perPart {
		parts[part] = hex.EncodeToString(sum.Sum(nil))
	}
	return hex.EncodeToString(all.Sum(nil)), parts, nil
}
