package directive

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// options has an option of every kind.
type options struct {
	text   string
	texts  []string
	wait   caddy.Duration
	on     bool
	again  int
	nested *options
}

// UnmarshalCaddyfile parses a block of options.
func (o *options) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return Block(d, "directive", Options{
		"text": Text(&o.text), "texts": Texts(&o.texts), "wait": Duration(&o.wait), "on": Flag(&o.on), "nested": Nested(&o.nested),
		"again": func(*caddyfile.Dispenser) error { o.again++; return nil },
	}, "again")
}

func parse(text string) (o options, err error) {
	d := caddyfile.NewTestDispenser(text)
	d.Next()
	return o, o.UnmarshalCaddyfile(d)
}

func TestOptionsOfABlock(t *testing.T) {
	for name, c := range map[string]struct {
		block string
		fails string
	}{
		"each once":           {"text a\ntexts a b\nwait 1m\non", ""},
		"some again":          {"again\nagain", ""},
		"nothing":             {"", ""},
		"twice":               {"text a\ntext b", `duplicate option "text", at Testfile:3`},
		"unknown":             {"colour red", `unrecognized option "colour" of directive`},
		"unknown within":      {"nested {\ncolour red\n}", `unrecognized option "colour" of directive`},
		"a block of none":     {"text a {\non\n}", `unrecognized option "{"`},
		"before the block":    {"nested a {\non\n}", "Testfile:2"},
		"no argument":         {"text", "Testfile:2"},
		"two arguments":       {"text a b", "Testfile:2"},
		"an empty argument":   {`text ""`, `option "text" has an empty value`},
		"no arguments":        {"texts", "Testfile:2"},
		"one that is empty":   {`texts a ""`, `option "texts" has an empty value`},
		"a value too many":    {"on off", "Testfile:2"},
		"no duration":         {"wait soon", `"soon" is not a positive duration`},
		"zero":                {"wait 0s", `"0s" is not a positive duration`},
		"a negative duration": {"wait -1s", `"-1s" is not a positive duration`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse("directive {\n" + c.block + "\n}")
			if (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Errorf("error %v, want %q", err, c.fails)
			}
		})
	}
}

func TestArgumentsThatMayBePasswordsAreNotQuoted(t *testing.T) {
	t.Parallel()
	for _, block := range []string{
		"text postgres://app:Sec ret@h/db", "text host=h password=Secret", "text a Secret b", "nested redis://:Secret@h {\non\n}", "nested Server=h;Password=Secret",
	} {
		_, err := parse("directive {\n" + block + "\n}")
		if err == nil || !strings.Contains(err.Error(), "wrong argument count") || strings.Contains(strings.ToLower(err.Error()), "ret") {
			t.Errorf("%s: error %v", block, err)
		}
	}
}

func TestValuesAreParsed(t *testing.T) {
	o, err := parse("directive {\ntext a\ntexts b c\nwait 1d\non\nagain\nagain\nnested {\ntext d\n}\n}")
	if err != nil || o.text != "a" || !slices.Equal(o.texts, []string{"b", "c"}) || time.Duration(o.wait) != 24*time.Hour ||
		!o.on || o.again != 2 || o.nested == nil || o.nested.text != "d" {
		t.Errorf("%+v, error %v", o, err)
	}
}

func TestOneOf(t *testing.T) {
	for _, value := range []string{"", "on", "off"} {
		if err := OneOf("rescue", value, "on", "off"); err != nil {
			t.Errorf("%q: error %v", value, err)
		}
	}
	if err := OneOf("rescue", "perhaps", "on", "off"); err == nil || err.Error() != `rescue is "perhaps"; it must be one of on, off` {
		t.Errorf("error %v", err)
	}
}
