package wal

import "fmt"

// The functions in this file are the transitions of a stream's state, for implementations of Registry: an
// implementation evaluates one against the state that its transaction compares.

// BeginSeal moves OPEN at revision rev to SEALING (S2). false: the state stays as it is.
func (s StreamState) BeginSeal(rev int64, sealer string) (StreamState, bool) {
	if s.Phase != PhaseOpen || s.Rev != rev {
		return s, false
	}
	s.Phase, s.Sealer = PhaseSealing, sealer
	return s, true
}

// FinishSeal moves SEALING to SEALED (S6), or OPEN to SEALED if recoveryKey is empty (W8). A life that closes itself
// after somebody began to seal it leaves the finish to the sealer, whose recovery object is the decision (S5). false:
// the state stays as it is.
func (s StreamState) FinishSeal(n int64, digest Digest, recoveryKey string) (StreamState, bool) {
	if s.Phase == PhaseSealing && recoveryKey == "" || s.Phase == PhaseOpen && recoveryKey != "" || s.Phase == PhaseSealed {
		return s, false
	}
	s.Phase, s.N, s.Digest, s.RecoveryKey = PhaseSealed, n, digest, recoveryKey
	return s, true
}

// CheckTrim says whether trim may rise to t: the phase must be the one the caller saw at rev, and OPEN, or SEALED with
// t not behind the end (G1). Errors wrap ErrStale.
func (s StreamState) CheckTrim(rev, t int64) error {
	switch {
	case s.Rev != rev:
		return fmt.Errorf("%w: revision is %d, not %d", ErrStale, s.Rev, rev)
	case s.Phase == PhaseSealing:
		return fmt.Errorf("%w: it is being sealed", ErrStale)
	case s.Phase == PhaseSealed && t > s.N:
		return fmt.Errorf("%w: trim %d is behind the end %d", ErrStale, t, s.N)
	case t < s.Trim:
		return fmt.Errorf("%w: trim %d is below the present %d", ErrStale, t, s.Trim)
	}
	return nil
}

// Deletable returns the end of the slots that may be deleted: those below trim (G2). It never covers the Seal or
// Close that ends a log (G3). Delete them by exact keys (G5).
func (s StreamState) Deletable() int64 {
	if s.Phase == PhaseSealed {
		return min(s.Trim, s.N)
	}
	return s.Trim
}
