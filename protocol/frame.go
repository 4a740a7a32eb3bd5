package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ErrMalformed means that bytes from a client are not what they claim to be. The connection is to be closed (A7).
var ErrMalformed = errors.New("malformed request")

// ErrUnsupported means that the key or the version is not served. The connection is to be closed (A3).
var ErrUnsupported = errors.New("unsupported request")

// A Header is what comes before a request's body.
type Header struct {
	Key           int16
	Version       int16
	CorrelationID int32
	// ClientID is nil if the client sent null. It is a copy, not an alias of the frame.
	ClientID *string
	// Flexible says that the header and the body have tagged fields (KIP-482).
	Flexible bool
}

// flexible reports whether the request's header and body have tagged fields. An ApiVersions request of an unknown, higher
// version is taken to be flexible, as Kafka does; its body is not read.
func flexible(key, version int16) bool {
	i := findAPI(key)
	return i >= 0 && version >= apis[i].flexible
}

// ParseHeader splits a frame, without its 4 bytes of size, into header and body. The body aliases the frame.
// Errors are ErrMalformed; key and version are set even then if the frame holds them, but are not checked.
func ParseHeader(frame []byte) (Header, []byte, error) {
	if len(frame) < 8 {
		return Header{}, nil, fmt.Errorf("header of %d bytes: %w", len(frame), ErrMalformed)
	}
	h := Header{
		Key:           int16(binary.BigEndian.Uint16(frame)),
		Version:       int16(binary.BigEndian.Uint16(frame[2:])),
		CorrelationID: int32(binary.BigEndian.Uint32(frame[4:])),
	}
	h.Flexible = flexible(h.Key, h.Version)
	s := skimmer{src: frame[8:], memLeft: memFree}
	if n := int16(s.uint16()); n >= 0 {
		id := string(s.span(int(n)))
		h.ClientID = &id
	}
	if h.Flexible {
		s.tags(nil)
	}
	if s.err != nil {
		return h, nil, fmt.Errorf("%s header: %w", Key(h.Key), s.err)
	}
	return h, s.src, nil
}

// Decode guards and then decodes a request's body. Strings and byte fields of the result alias body: copy what outlives
// the frame. Errors are ErrUnsupported and ErrMalformed.
func Decode(key, version int16, body []byte) (kmsg.Request, error) {
	if err := Guard(key, version, body); err != nil {
		return nil, err
	}
	return DecodeMeasured(key, version, body)
}

// DecodeMeasured is Decode for a body that Measure or Guard has let pass.
func DecodeMeasured(key, version int16, body []byte) (kmsg.Request, error) {
	req := kmsg.RequestForKey(key)
	req.SetVersion(version)
	if err := req.(kmsg.UnsafeReadFrom).UnsafeReadFrom(body); err != nil {
		return nil, fmt.Errorf("%s v%d: %w: %w", Key(key), version, ErrMalformed, err)
	}
	return req, nil
}

// EncodeResponse returns the whole frame of a response: size, header and body. The header is flexible if the body is,
// except for ApiVersions, whose header stays v0 so that any client can read it (A4).
func EncodeResponse(correlationID int32, resp kmsg.Response) []byte {
	return AppendResponse(make([]byte, 0, 256), correlationID, resp)
}

// AppendResponse appends what EncodeResponse returns to dst.
func AppendResponse(dst []byte, correlationID int32, resp kmsg.Response) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(correlationID))
	if resp.IsFlexible() && resp.Key() != int16(KeyAPIVersions) {
		dst = append(dst, 0)
	}
	dst = resp.AppendTo(dst)
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
	return dst
}
