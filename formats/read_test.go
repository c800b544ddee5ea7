package formats

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestChunksAreJoinedAsTheyAreNumbered(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cookies string // name=value, separated by blanks
		upToGap bool
		want    []string
	}{
		"in order":             {"s.0=a s.1=b", false, []string{"ab"}},
		"in any order":         {"s.10=k s.1=b s.0=a", false, []string{"abk"}},
		"with a gap":           {"s.0=a s.2=c", false, []string{"ac"}},
		"up to the gap too":    {"s.0=a s.1=b s.3=d", true, []string{"abd", "ab"}},
		"doubled":              {"s.0=a s.1=b s.0=A", false, []string{"ab", "Ab"}},
		"doubled alike":        {"s.0=a s.1=b s.0=a", false, []string{"ab"}},
		"names of other kinds": {"s.0=a s=b s.01=c s.=d s.1x=e s.-1=f s.1000=g t.1=h s.1.2=i", false, []string{"a"}},
		"none":                 {"s=a", false, nil},
	} {
		var parts []Part
		for pair := range strings.FieldsSeq(c.cookies) {
			name, value, _ := strings.Cut(pair, "=")
			parts = append(parts, Part{Name: name, Value: value})
		}
		var got []string
		for _, r := range Joined(parts, "s", ".", c.upToGap) {
			got = append(got, r.Text)
			var text strings.Builder
			for _, i := range r.Parts {
				text.WriteString(parts[i].Value)
			}
			if text.String() != r.Text {
				t.Errorf("%s: %q is from parts that hold %q", name, r.Text, text.String())
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestHowAValueBegins(t *testing.T) {
	for value, want := range map[string]bool{
		"Fe*x": true, "Fe*": true, " \t\v\xa0Fe*": true, `"Fe*"`: true, `" Fe*"`: false, "%46e*": true, "%46%65%2a": true, "%46%65%2A%zz": true, `"F%65*`: true,
		"": false, "Fe": false, "fe*": false, "xFe*": false, "%": false, "%4": false, "%46": false, "%zze*": false, "%46e%2": false, "%2546e*": false,
	} {
		if Begins(value, "Fe*") != want {
			t.Errorf("%q: %t", value, !want)
		}
	}
	value := "%46e" + strings.Repeat("x", 10)
	if allocations := testing.AllocsPerRun(100, func() { Begins(value, "Fe*") }); allocations > 0 {
		t.Errorf("%.0f allocations", allocations)
	}
}

func TestMoreChunksThanAnyLibraryWritesAreNotRead(t *testing.T) {
	t.Parallel()
	var parts []Part
	for i := range maxChunks + 1 {
		parts = append(parts, Part{Name: fmt.Sprintf("s.%d", i), Value: "a"})
	}
	if all := Joined(parts, "s", ".", true); all != nil {
		t.Errorf("%d readings", len(all))
	}
	if all := Joined(parts[1:], "s", ".", false); len(all) != 1 || len(all[0].Text) != maxChunks {
		t.Errorf("%d readings of what a library may write", len(all))
	}
}

func TestValuesAreThoseOfCookies(t *testing.T) {
	t.Parallel()
	parts := []Part{{Name: "s", Value: "a"}, {Header: "S", Name: "s", Value: "b"}, {Name: "s", Value: "c"}, {Name: "s", Value: "a"}, {Name: "S", Value: "d"}}
	all := Values(parts, "s")
	if len(all) != 2 || all[0].Text != "a" || all[1].Text != "c" || all[1].Parts[0] != 2 {
		t.Errorf("%+v", all)
	}
}

func TestBearer(t *testing.T) {
	t.Parallel()
	for field, want := range map[string]string{
		"Bearer abc": "abc", "bearer  abc ": "abc", "Bearer abc def": "abc", "Bearer\tabc\tdef": "abc", " BEARER\tabc": "abc", "Basic abc": "", "Bearer": "", "": "", "Bearerabc": "",
	} {
		if got := Bearer(field); got != want {
			t.Errorf("%q: %q, want %q", field, got, want)
		}
	}
}

func TestASubjectIsTheFirstThatThereIs(t *testing.T) {
	t.Parallel()
	for claims, want := range map[string]string{
		`{"userId":"a","user":{"id":"b"}}`: "a", `{"user":{"id":7}}`: "7", `{"userId":"","user":{"id":"b"}}`: "b",
		`{"userId":1.5}`: "", `{"userId":1e3}`: "", `{"userId":true}`: "", `{"userId":{"id":"a"}}`: "", `{}`: "", `{"user.id":"c"}`: "c",
	} {
		in := json.NewDecoder(strings.NewReader(claims))
		in.UseNumber()
		var object map[string]any
		if err := in.Decode(&object); err != nil {
			t.Fatal(err)
		}
		if got := Subject(object, "userId", "user.id"); got != want {
			t.Errorf("%s: %q, want %q", claims, got, want)
		}
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	want := time.Date(2026, 11, 29, 12, 0, 0, 5e6, time.UTC)
	for _, claim := range []any{json.Number("1795953600005"), json.Number("1795953600.005"), "2026-11-29T12:00:00.005Z", "2026-11-29T13:00:00.005+01:00"} {
		if got, ok := Time(claim); !ok || got.Sub(want).Abs() > time.Microsecond {
			t.Errorf("%v is %s, %t", claim, got.UTC(), ok)
		}
	}
	for _, claim := range []any{nil, true, "soon", json.Number("x"), map[string]any{}} {
		if got, ok := Time(claim); ok {
			t.Errorf("%v is %s", claim, got)
		}
	}
}

func TestTheNameOfACookieWithoutTheNumberOfAChunk(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"s.0": "s", "s.12": "s", "a.b.3": "a.b", "s": "s", "s.": "s.", "s.01": "s.01", "s.x": "s.x", "s.1234": "s.1234", ".1": ".1", "": "",
	} {
		if got := Whole(name, "."); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	if got := Whole("s__2", "__"); got != "s" {
		t.Errorf("two underscores: %q", got)
	}
}
