package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseProperties(t *testing.T) {
	tests := []struct {
		name, text string
		want       []Property
	}{
		{"separators", "a=1\nb:2\nc 3\n d \t= 4 \ne\n=5", []Property{{"a", "1", 1}, {"b", "2", 2}, {"c", "3", 3}, {"d", "4 ", 4}, {"e", "", 5}, {"", "5", 6}}},
		{"comments", "# a=1\n  ! b=2\n\nc=3#4", []Property{{"c", "3#4", 4}}},
		{"continued", "a=1,\\\n   2,\\\r\n\t3\nb=c\\\\\nd=e\\", []Property{{"a", "1,2,3", 1}, {"b", `c\`, 4}, {"d", "e", 5}}},
		{"comment is no continuation", "# x\\\na=1", []Property{{"a", "1", 2}}},
		{"escapes", `a\=b\ c=\t\n\r\f\u00e9\q\ud83d\ude00`, []Property{{"a=b c", "\t\n\r\fé" + "q😀", 1}}},
		{"twice", "a=1\na=2", []Property{{"a", "1", 1}, {"a", "2", 2}}},
		{"carriage returns", "a=1\rb=2", []Property{{"a", "1", 1}, {"b", "2", 2}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseProperties([]byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
	if _, err := ParseProperties([]byte("a=1\nb=\\u12g4")); err == nil || err.Error() != `line 2: malformed \uxxxx escape` {
		t.Errorf("bad escape: %v", err)
	}
}

func FuzzParseProperties(f *testing.F) {
	for _, seed := range []string{"a=1", "a\\", "\\u12", "\\", "a=\\ud83d\\ud", "#\\\n\\\n\\"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := ParseProperties(text)
		if err != nil {
			return
		}
		for i, p := range all {
			if len(p.Key)+len(p.Value) > len(text)*3 || p.Line < 1 || i > 0 && p.Line <= all[i-1].Line {
				t.Errorf("%q gives %+v", text, p)
			}
		}
	})
}

func FuzzYAML(f *testing.F) {
	for _, seed := range []string{"rack: a", "kafka: {a: b}", "kafka: &x\n  num.partitions: 1\nrack: *x", "? [a]\n: b", "-", "a: b: c", "<<: *a", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(_ *testing.T, text string) {
		_, _ = load(map[string]string{"/w/b.yaml": text}, nil, "--config", "b.yaml")
	})
}
