package s3sim

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"strconv"
	"strings"
)

const bodyMax = 5 << 30 // of one PUT, as on S3

var errTooLarge = errors.New("body too large")

// readBody reads a request's body, with AWS's chunked framing taken off; signatures of chunks are not verified.
func readBody(r *http.Request) ([]byte, error) {
	if r.ContentLength > bodyMax {
		return nil, errTooLarge
	}
	chunked := strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") ||
		strings.Contains(r.Header.Get("Content-Encoding"), "aws-chunked")
	if chunked {
		return unchunk(bufio.NewReaderSize(r.Body, 64<<10), r.Header)
	}
	if r.ContentLength < 0 {
		return io.ReadAll(io.LimitReader(r.Body, bodyMax))
	}
	body := make([]byte, r.ContentLength)
	_, err := io.ReadFull(r.Body, body)
	return body, err
}

// unchunk reads "size;chunk-signature=...\r\n data \r\n" until a chunk of size 0, whose trailers join the header.
func unchunk(r *bufio.Reader, header http.Header) ([]byte, error) {
	var body bytes.Buffer
	for {
		line, err := readLine(r)
		if err != nil {
			return nil, err
		}
		digits, _, _ := strings.Cut(line, ";")
		size, err := strconv.ParseInt(digits, 16, 64)
		if err != nil || size < 0 || int64(body.Len())+size > bodyMax {
			return nil, fmt.Errorf("chunk size %q", digits)
		}
		if size == 0 {
			return body.Bytes(), readTrailers(r, header)
		}
		if _, err := io.CopyN(&body, r, size); err != nil {
			return nil, err
		}
		if line, err := readLine(r); err != nil || line != "" {
			return nil, errors.New("chunk does not end where it says")
		}
	}
}

func readTrailers(r *bufio.Reader, header http.Header) error {
	for {
		line, err := readLine(r)
		if errors.Is(err, io.EOF) || err == nil && line == "" {
			return nil
		}
		if err != nil {
			return err
		}
		if name, value, ok := strings.Cut(line, ":"); ok {
			header.Set(strings.TrimSpace(name), strings.TrimSpace(value))
		}
	}
}

func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	return strings.TrimRight(string(line), "\r\n"), err
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksumFits verifies the CRC-32C that the client sent, if any.
func checksumFits(body []byte, header http.Header) bool {
	want := header.Get("X-Amz-Checksum-Crc32c")
	if want == "" {
		return true
	}
	sum := binary.BigEndian.AppendUint32(nil, crc32.Checksum(body, castagnoli))
	return base64.StdEncoding.EncodeToString(sum) == want
}
