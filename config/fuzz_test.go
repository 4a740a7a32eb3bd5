package config

import "testing"

// FuzzParseSize: a size is not negative and does not overflow.
func FuzzParseSize(f *testing.F) {
	for _, seed := range []string{"512MiB", "2GiB", "0", "1 KiB", "-1", "9223372036854775807TiB", "+7B", "1e3", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := parseSize(text); err == nil && (n < 0 || n > 1<<62) {
			t.Errorf("%q is %d bytes", text, n)
		}
	})
}
