package metadata

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSettings: the first caller's settings stay, whichever answer was lost on the way; only the defaults can be replaced.
func TestSettings(t *testing.T) {
	for _, mode := range []string{"not applied", "applied"} {
		t.Run(mode, func(t *testing.T) {
			s, f := openFaulty(t)
			fault := func() {
				if mode == "applied" {
					f.after.Store(1)
				} else {
					f.before.Store(1)
				}
			}
			ctx := t.Context()
			if _, err := s.Settings(ctx); !errors.Is(err, ErrNoSettings) {
				t.Errorf("before: %v, want ErrNoSettings", err)
			}
			first := Settings{Bucket: "s3://a", Kafka: map[string]string{"num.partitions": "4"}}
			fault()
			stored, created, err := s.InitSettings(ctx, first)
			if err != nil || !created || stored.Rev == 0 {
				t.Fatalf("init: got %+v, created %v, %v", stored, created, err)
			}
			first.Rev = stored.Rev
			again, created, err := s.InitSettings(ctx, Settings{Bucket: "s3://b"})
			if err != nil || created || !cmp.Equal(again, first) {
				t.Errorf("init again: got %+v, created %v, %v; want what the first stored", again, created, err)
			}
			fault()
			if err := s.ReplaceDefaults(ctx, stored, map[string]string{"num.partitions": "8"}); err != nil {
				t.Error(err)
			}
			if err := s.ReplaceDefaults(ctx, stored, nil); !errors.Is(err, ErrStale) {
				t.Errorf("replace what was replaced: %v, want ErrStale", err)
			}
			got := must[Settings](t)(s.Settings(ctx))
			if got.Bucket != "s3://a" || got.Kafka["num.partitions"] != "8" || got.Rev <= first.Rev {
				t.Errorf("got %+v", got)
			}
			if f.before.Load() > 0 || f.after.Load() > 0 {
				t.Error("a fault was never met")
			}
		})
	}
}

func TestSettingsAreAsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/formats/metadata.md")
	if err != nil {
		t.Fatal(err)
	}
	line := keys("/tidemill/demo/").settings() + " " +
		encode(settingsValue{newHeader("00112233aabbccdd"), "s3://logs/demo?region=eu-central-1", map[string]string{"num.partitions": "4"}})
	if !strings.Contains(string(doc), "\n"+line+"\n") {
		t.Errorf("not in docs/formats/metadata.md:\n%s", line)
	}
}
