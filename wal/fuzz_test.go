package wal

import "testing"

// FuzzParseLife: a life reads as what it prints.
func FuzzParseLife(f *testing.F) {
	f.Add(Life{Broker: 1, Epoch: 2, Nonce: [8]byte{3}}.String())
	f.Add("1/0-0")
	f.Add("/-")
	f.Add("2147483648/0-0000000000000000")
	f.Fuzz(func(t *testing.T, text string) {
		life, err := ParseLife(text)
		if err != nil {
			return
		}
		if again, err := ParseLife(life.String()); err != nil || again != life {
			t.Errorf("%q is %s, which reads as %s, %v", text, life, again, err)
		}
	})
}
