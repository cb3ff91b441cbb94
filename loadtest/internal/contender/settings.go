package contender

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Settings are what can be set on a contender's arms, as its manifest lists it.
type Settings struct {
	// Values are a setting's values by its name.
	Values map[string]Values
	// Runtime begins the names of the settings that belong to the language's runtime or allocator, whose values are theirs
	// to judge.
	Runtime []string
}

// Values are what a setting may be: one of several words, a number of a range, or a duration.
type Values struct {
	// OneOf are the words; the first is what the server takes where nothing is set.
	OneOf []string `yaml:"one_of"`
	// From and To bound a whole number, both included.
	From *int `yaml:"from"`
	To   *int `yaml:"to"`
	// Duration asks for one such as 5s or 300ms, longer than none.
	Duration bool `yaml:"duration"`
}

// String says what is expected.
func (v Values) String() string {
	switch {
	case v.Duration:
		return "a duration such as 5s or 300ms"
	case v.From != nil:
		return fmt.Sprintf("a number from %d to %d", *v.From, *v.To)
	default:
		return strings.Join(v.OneOf, " or ")
	}
}

// isWhole tells whether it says one thing, wholly.
func (v Values) isWhole() bool {
	isWord, isNumber := len(v.OneOf) > 0, v.From != nil || v.To != nil
	switch {
	case isWord:
		return !isNumber && !v.Duration && !slices.Contains(v.OneOf, "")
	case isNumber:
		return !v.Duration && v.From != nil && v.To != nil && *v.From <= *v.To
	default:
		return v.Duration
	}
}

// allow tells whether a setting may be that.
func (v Values) allow(value string) bool {
	switch {
	case v.Duration:
		d, err := time.ParseDuration(value)
		return err == nil && d > 0
	case v.From != nil:
		n, err := strconv.Atoi(value)
		return err == nil && value == strconv.Itoa(n) && *v.From <= n && n <= *v.To
	default:
		return slices.Contains(v.OneOf, value)
	}
}

// check tells what is wrong with a setting. A name with a slip of the pen would have no effect, nor would a value that a
// server reads as its default, and the figures would carry a wrong label.
func (s Settings) check(key, value string) error {
	if s.isRuntime(key) {
		return nil
	}
	values, known := s.Values[key]
	switch {
	case !known:
		return fmt.Errorf("%s is no setting of this contender; there are: %s, and those of its runtime (%s)", key, strings.Join(slices.Sorted(maps.Keys(s.Values)), ", "), s.runtimes())
	case !values.allow(value):
		return fmt.Errorf("%s is %q: expected %s", key, value, values)
	}
	return nil
}

// listed tells whether the manifest lists any.
func (s Settings) listed() bool { return len(s.Values)+len(s.Runtime) > 0 }

// TakeSettings gives contenders of a revision from before manifests listed settings those that their namesakes have now.
func TakeSettings(old, now []Contender) {
	for i := range old {
		j := slices.IndexFunc(now, func(c Contender) bool { return c.Name == old[i].Name })
		if j < 0 || old[i].Settings.listed() {
			continue
		}
		old[i].Settings = now[j].Settings
		for k := range old[i].Arms {
			old[i].Arms[k].Settings = now[j].Settings
		}
	}
}

func (s Settings) isRuntime(name string) bool {
	return environmentName.MatchString(name) && slices.ContainsFunc(s.Runtime, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

func (s Settings) runtimes() string {
	if len(s.Runtime) == 0 {
		return "none"
	}
	return strings.Join(s.Runtime, "…, ") + "…"
}

// parse reads KEY=VALUE[+KEY=VALUE…].
func (s Settings) parse(text string) (map[string]string, error) {
	changed := map[string]string{}
	for pair := range strings.SplitSeq(text, "+") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" || value == "" {
			return nil, fmt.Errorf("setting %q is not written KEY=VALUE", pair)
		}
		if key == "TIER" {
			return nil, errors.New("TIER cannot be set: a tier is an arm of its own, such as go-floor")
		}
		if slices.Contains(engineSets, key) {
			return nil, fmt.Errorf("%s is set by the engine alone", key)
		}
		if err := s.check(key, value); err != nil {
			return nil, err
		}
		if _, twice := changed[key]; twice {
			return nil, fmt.Errorf("%s is set twice", key)
		}
		changed[key] = value
	}
	return changed, nil
}

// settings reads those of a manifest; an error names the key that is wrong.
func (m *manifest) settings(text []byte) (Settings, error) {
	for _, name := range slices.Sorted(maps.Keys(m.Settings)) {
		err := checkName("settings", name)
		switch {
		case err != nil:
		case name == "TIER":
			err = errors.New("settings.TIER: a tier is an arm of its own, such as go-floor")
		case !m.Settings[name].isWhole():
			err = fmt.Errorf("settings.%s: expected one of: one_of with words, from and to with numbers, duration: true", name)
		}
		if err != nil {
			return Settings{}, located(text, err, "settings", name)
		}
	}
	for i, prefix := range m.RuntimeSettings {
		if !environmentName.MatchString(prefix) {
			return Settings{}, located(text, fmt.Errorf("runtime_settings[%d]: %q does not begin a name of upper-case letters, digits and _", i, prefix), "runtime_settings", strconv.Itoa(i))
		}
	}
	return Settings{Values: m.Settings, Runtime: m.RuntimeSettings}, nil
}
