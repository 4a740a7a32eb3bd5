package wal

// DecodeDirectory decodes header and directory of a slot object without its chunks, and verifies the digest over both.
// header is its first HeaderLen bytes, directory the DirLen bytes at DirPos. Errors wrap ErrCorrupt.
func DecodeDirectory(header, directory []byte) (Header, []Chunk, error) {
	h, err := DecodeHeader(header)
	if err != nil {
		return Header{}, nil, err
	}
	if uint64(len(directory)) != uint64(h.DirLen) {
		return h, nil, corruptf("slot %d: directory of %d bytes, its header says %d", h.Seq, len(directory), h.DirLen)
	}
	if got := slotDigest(header[:HeaderLen], directory); got != h.Digest {
		return h, nil, corruptf("slot %d: digest is %x, want %x", h.Seq, got, h.Digest)
	}
	chunks, err := decodeDirectory(&h, directory)
	return h, chunks, err
}
