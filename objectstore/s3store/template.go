package s3store

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/tidemill/tidemill/objectstore"
)

// A template is a PutObject request as the SDK makes it, but for what differs from object to object. The SDK takes 0.3 ms
// of CPU for each request, more than everything else that a small slot costs, to find the same answers again: where the
// bucket is, how it is addressed, who signs for which region. It is asked once; its signer signs each request.
type template struct {
	method string
	// url ends with the placeholder's place.
	url    *url.URL
	header http.Header
	region string
	signer *v4.Signer
	// ahead is by how much the service's clock was ahead of ours when it answered last, in nanoseconds. Requests are signed by
	// that clock: one that is signed a quarter of an hour off is refused.
	ahead atomic.Int64
}

// placeholder is the key of the request that becomes the template.
const placeholder = "0"

// unsigned stands for the checksum of a body that the signature does not cover.
const unsigned = "UNSIGNED-PAYLOAD"

// perRequest are the headers of one request alone.
var perRequest = []string{
	"Authorization", "Amz-Sdk-Invocation-Id", "Content-Length", "X-Amz-Checksum-Crc32c", "X-Amz-Date", "X-Amz-Security-Token", "X-Amzn-Trace-Id",
}

var errTaken = errors.New("request was taken, not sent")

// taker is an HTTP client that keeps the request.
type taker struct{ request *http.Request }

func (t *taker) Do(r *http.Request) (*http.Response, error) {
	t.request = r
	return nil, errTaken
}

// learnTemplate makes the template of Puts, unless they are signed in a way of their own (S3 Express, access points of
// many regions) or with their bodies: then the SDK makes every request.
func (s *Store) learnTemplate(ctx context.Context) {
	s.template = nil
	if s.checksums != Header {
		return
	}
	taken := &taker{}
	_ = s.putBySDK(ctx, placeholder, newBodyReader(objectstore.Body{Pieces: [][]byte{{0}}, Size: 1}), 0, func(o *s3.Options) { o.HTTPClient = taken })
	r := taken.request
	if r == nil || r.URL.RawPath != "" && r.URL.RawPath != r.URL.Path || !strings.HasSuffix(r.URL.Path, "/"+s.config.Prefix+placeholder) {
		return
	}
	_, scope, ok := strings.Cut(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=")
	scope, _, _ = strings.Cut(scope, ",")
	parts := strings.Split(scope, "/") // access key, day, region, service, "aws4_request"
	if n := len(parts); !ok || n < 5 || parts[n-2] != "s3" || r.Header.Get("X-Amz-Content-Sha256") != unsigned || r.Header.Get("X-Amz-S3session-Token") != "" {
		return
	}
	t := &template{method: r.Method, url: r.URL, header: r.Header.Clone(), region: parts[len(parts)-3], signer: v4.NewSigner()}
	t.url.RawPath = ""
	t.url.Path = strings.TrimSuffix(t.url.Path, placeholder)
	for _, name := range perRequest {
		t.header.Del(name)
	}
	s.template = t
}

// plain reports whether a key goes into a path as it is.
func plain(key string) bool {
	return !slices.ContainsFunc(strings.Split(key, "/"), func(part string) bool { return strings.Trim(part, ".") == "" }) &&
		!strings.ContainsFunc(key, func(c rune) bool {
			return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-_./", c)
		})
}

// putByTemplate sends a Put. Errors are those that the SDK would return.
func (s *Store) putByTemplate(ctx context.Context, key string, body *bodyReader, crc uint32) error {
	t := s.template
	who, err := s.loaded.Credentials.Retrieve(ctx)
	if err != nil {
		return err
	}
	address := *t.url
	address.Path += key
	r := &http.Request{
		Method: t.method, URL: &address, Host: address.Host, Header: t.header.Clone(), Body: body, ContentLength: body.size,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	r.Header.Set("X-Amz-Checksum-Crc32c", checksumText(crc))
	r.Header.Set("Content-Length", strconv.FormatInt(body.size, 10))
	at := time.Now().Add(time.Duration(t.ahead.Load()))
	if err := t.signer.SignHTTP(ctx, who, r, unsigned, "s3", t.region, at, bucketPaths); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	resp, err := s.conn.transport.RoundTrip(r.WithContext(ctx))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	t.compareClocks(resp.Header)
	text, err := io.ReadAll(io.LimitReader(resp.Body, answerMax))
	if resp.StatusCode == http.StatusOK {
		return err // what the service stored is only sure once its answer is whole
	}
	return refusal(resp, text)
}

// compareClocks learns the service's time from an answer that just came from it, not from a cache.
func (t *template) compareClocks(answer http.Header) {
	if there, err := http.ParseTime(answer.Get("Date")); err == nil && answer.Get("Age") == "" {
		t.ahead.Store(int64(time.Until(there)))
	}
}

// bucketPaths tells the signer that paths of S3 are escaped once.
func bucketPaths(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }

// answerMax bounds what is read of an answer to a Put.
const answerMax = 64 << 10

// refusal is the error of an answer, in the SDK's types.
func refusal(resp *http.Response, text []byte) error {
	var said struct {
		Code, Message string
	}
	if xml.Unmarshal(text, &said) != nil || said.Code == "" {
		said.Code = "UnknownError"
	}
	return &awshttp.ResponseError{
		ResponseError: &smithyhttp.ResponseError{
			Response: &smithyhttp.Response{Response: resp},
			Err:      &smithy.GenericAPIError{Code: said.Code, Message: said.Message},
		},
		RequestID: resp.Header.Get("X-Amz-Request-Id"),
	}
}

// putBySDK sends a Put for which there is no template.
func (s *Store) putBySDK(ctx context.Context, key string, body *bodyReader, crc uint32, options ...func(*s3.Options)) error {
	input := &s3.PutObjectInput{
		Bucket: &s.config.Bucket, Key: aws.String(s.config.Prefix + key),
		Body: body, ContentLength: &body.size, IfNoneMatch: aws.String("*"),
	}
	if s.checksums == Header {
		input.ChecksumCRC32C = aws.String(checksumText(crc))
		options = append(options, s3.WithAPIOptions(v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware))
	}
	_, err := s.conn.once.PutObject(context.WithValue(ctx, bodyKey{}, body), input, options...)
	return err
}
