package server

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDates(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 20000 {
		days := int64(random.IntN(int(lastDate)+719528+1)) - 719528 // from 0000-01-01
		at := time.Unix(days*24*60*60, random.Int64N(24*60*60*1000)*int64(time.Millisecond)).UTC()
		require.Equal(t, at.Format(time.DateOnly), string(appendDate(nil, Date(days))))
		require.Equal(t, at.Format("2006-01-02T15:04:05.000Z"), string(appendDateTime(nil, DateTime(at.UnixMilli()))))
		require.Equal(t, at.Weekday(), Date(days).weekday())
		parsed, err := parseDate(at.Format(time.DateOnly))
		require.NoError(t, err)
		require.Equal(t, Date(days), parsed)
	}
	for _, wrong := range []string{"", "2026-02-30", "2026-2-3", "2026-02-03T00:00:00Z", "26-02-03", " 2026-02-03", "２０２６-02-03"} {
		_, err := parseDate(wrong)
		assert.Error(t, err, wrong)
	}
}

func TestJSONStrings(t *testing.T) {
	for _, s := range []string{"", "plain", "\"quoted\" \\ /", "\n\r\t\b\f\x00\x1f\x7f", "<b>&", "🏝️ 𝔘 مرحبا \u2028", "�"} {
		var back string
		require.NoError(t, json.Unmarshal(appendJSONString(nil, s), &back))
		assert.Equal(t, s, back)
	}
}

func TestDocumentCache(t *testing.T) {
	c := newDocumentCache(3)
	for i := range 5 {
		c.add(fmt.Sprint(i), &document{aliases: i})
		c.get("1") // stays in use
	}
	assert.Equal(t, 3, c.len())
	assert.Nil(t, c.get("0"))
	assert.Nil(t, c.get("2"))
	require.NotNil(t, c.get("1"))
	assert.Equal(t, 4, c.get("4").aliases)
	c.add(string(make([]byte, longestCachedText+1)), &document{})
	assert.Equal(t, 3, c.len())
}

func TestSurrogates(t *testing.T) {
	for text, lone := range map[string]bool{
		`plain`: false, `\uD83C\uDFDD`: false, `\ud83c\udfdd`: false, `\uD83C`: true, `\uDFDD`: true,
		`\uD83C\u0041`: true, `\uDFDD\uD83C`: true, `\\uD83C`: false, `\\\uD83C`: true, `\u{D83C}`: false, `\n\uD83Cx`: true,
	} {
		assert.Equal(t, lone, hasLoneSurrogate([]byte(text)), text)
	}
}
