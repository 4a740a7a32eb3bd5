// Package crc32c computes CRC-32C checksums of joined bytes from the checksums of their parts, so that what was summed once is
// not read again.
package crc32c

import "hash/crc32"

// Table is the polynomial's, for package hash/crc32.
var Table = crc32.MakeTable(crc32.Castagnoli)

// Sum returns the checksum of b.
func Sum(b []byte) uint32 { return crc32.Checksum(b, Table) }

// A Joiner computes checksums of joined bytes from the checksums of their parts, as zlib's crc32_combine does: a CRC is a
// remainder of polynomials, and n more bytes multiply it by x^8n. It remembers the last length, as batches of one
// producer tend to be equally long. The zero value is ready; it is owned by one goroutine.
type Joiner struct {
	n      int
	factor uint32
}

// JoinMin is how many bytes are cheaper to read again than to join.
const JoinMin = 4 << 10

// Join returns the CRC-32C of a and b from theirs; n is the length of b.
func (j *Joiner) Join(a, b uint32, n int) uint32 {
	if n != j.n || j.factor == 0 {
		j.n, j.factor = n, xPower(n)
	}
	return multiply(j.factor, a) ^ b
}

// Polynomials over two elements modulo that of CRC-32C are held as the CRC holds them: the top bit is x^0.
const (
	crcOne = 1 << 31
	crcX   = 1 << 30
)

// xSquares[k] is x^(2^k).
var xSquares = func() (squares [32]uint32) {
	squares[0] = crcX
	for k := 1; k < len(squares); k++ {
		squares[k] = multiply(squares[k-1], squares[k-1])
	}
	return squares
}()

// xPower returns x^8n.
func xPower(n int) uint32 {
	p := uint32(crcOne)
	for k := 3; n > 0; k++ {
		if n&1 != 0 {
			p = multiply(xSquares[k], p)
		}
		n >>= 1
	}
	return p
}

// multiply returns a times b modulo the polynomial.
func multiply(a, b uint32) uint32 {
	p := uint32(0)
	for ; a != 0; a <<= 1 {
		if a&crcOne != 0 {
			p ^= b
		}
		b = b>>1 ^ crc32.Castagnoli&-(b&1)
	}
	return p
}
