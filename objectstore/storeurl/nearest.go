package storeurl

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// onlyKeys fails for a key that is not known, is given twice, or is empty.
func onlyKeys(query url.Values, known ...string) error {
	for _, key := range slices.Sorted(maps.Keys(query)) {
		switch values := query[key]; {
		case len(known) == 0:
			return fmt.Errorf("?%s=: a folder has no settings", key)
		case !slices.Contains(known, key):
			return fmt.Errorf("unknown setting ?%s=%s: it takes %s", key, didYouMean(key, known...), strings.Join(known, ", "))
		case len(values) > 1:
			return fmt.Errorf("?%s= is given %d times", key, len(values))
		case values[0] == "":
			return fmt.Errorf("?%s= is empty: give it a value or leave it out", key)
		}
	}
	return nil
}

// didYouMean returns a question about the known word nearest to got, or nothing if none is near.
func didYouMean(got string, known ...string) string {
	best, nearest := "", len(got)/2+1
	for _, word := range known {
		if d := distance(strings.ToLower(got), word); d <= nearest {
			best, nearest = word, d-1
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// distance is the number of single-byte insertions, deletions and replacements that make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
