// Package s3sim is an S3 server in memory with the latency of a real one: PUT with If-None-Match and If-Match, GET with
// ranges, HEAD, DELETE, DeleteObjects and ListObjectsV2 on one bucket, which exists from the start under any name, with
// path-style addresses. Signatures are accepted unverified; a CRC-32C header is verified.
//
// Invariants: objects are created whole and conditions decided atomically; a PUT that was received whole takes effect at the
// end of its delay, whether or not its client still waits; delays follow from seed, operation and size alone; every request
// is counted, under the first part of its key, at /_stats.
package s3sim

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Options of a Server. The zero value is without delays and keeps everything.
type Options struct {
	Profile Profile
	Seed    uint64
	// KeepBytes bounds the bodies of 64 KiB and more that are kept in memory; 0: all are. The oldest go to a temporary file.
	KeepBytes int64
}

// A Server is an http.Handler.
type Server struct {
	objects *objects
	latency latency
	counter *counter
}

// New returns a server with an empty bucket.
func New(o Options) *Server {
	return &Server{
		objects: newObjects(o.KeepBytes), counter: newCounter(),
		latency: latency{profile: o.Profile, seed: o.Seed},
	}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/_stats" {
		s.counter.serve(w, s.objects.holdings())
		return
	}
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	query := r.URL.Query()
	switch {
	case key != "" && r.Method == http.MethodPut && !query.Has("partNumber"):
		s.put(w, r, key)
	case key != "" && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		s.get(w, r, key)
	case key != "" && r.Method == http.MethodDelete:
		s.delete(w, key)
	case key == "" && r.Method == http.MethodPost && query.Has("delete"):
		s.deleteMany(w, r)
	case key == "" && r.Method == http.MethodGet && query.Get("list-type") == "2":
		s.list(w, query)
	case key == "" && (r.Method == http.MethodHead || r.Method == http.MethodPut):
		w.WriteHeader(http.StatusOK) // any bucket is there
	default:
		fail(w, http.StatusNotImplemented, "NotImplemented", "the simulator does not know this request")
	}
}

// wait ends after d, whatever becomes of the client: what was received whole takes effect.
func wait(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
}

func (s *Server) put(w http.ResponseWriter, r *http.Request, key string) {
	begun := time.Now()
	body, err := readBody(r)
	if err != nil {
		s.counter.count(OpPut, key, 0, http.StatusBadRequest)
		fail(w, http.StatusBadRequest, "IncompleteBody", err.Error())
		return
	}
	status, code := http.StatusOK, ""
	c := condition{absent: r.Header.Get("If-None-Match") == "*", etag: r.Header.Get("If-Match")}
	etag := fmt.Sprintf(`"%08x-%d"`, len(body), time.Now().UnixNano())
	if len(body) < bigBody { // for large bodies MD5 would be the most of what the simulator does
		etag = md5Etag(body)
	}
	wait(s.latency.delay(OpPut, len(body)))
	switch {
	case !checksumFits(body, r.Header):
		status, code = http.StatusBadRequest, "BadDigest"
	case !s.objects.put(key, body, etag, c):
		status, code = http.StatusPreconditionFailed, "PreconditionFailed"
	}
	s.counter.count(OpPut, key, len(body), status)
	s.counter.lastPut(time.Since(begun))
	if code != "" {
		fail(w, status, code, "the object was not stored")
		return
	}
	w.Header().Set("ETag", etag)
	w.WriteHeader(status)
}

func (s *Server) get(w http.ResponseWriter, r *http.Request, key string) {
	op := OpGet
	if r.Method == http.MethodHead {
		op = OpHead
	}
	obj, ok := s.objects.get(key)
	var from, upTo, status int
	switch {
	case !ok:
		status = http.StatusNotFound
	default:
		from, upTo, status = byteRange(r.Header.Get("Range"), obj.size)
	}
	sent := 0
	if op == OpGet && status < http.StatusMultipleChoices {
		sent = upTo - from
	}
	wait(s.latency.delay(op, sent))
	body, err := s.objects.read(obj, from, from+sent)
	if err != nil {
		status = http.StatusInternalServerError
	}
	s.counter.count(op, key, sent, status)
	switch status {
	case http.StatusNotFound:
		fail(w, status, "NoSuchKey", "no such key")
		return
	case http.StatusInternalServerError:
		fail(w, status, "InternalError", err.Error())
		return
	case http.StatusRequestedRangeNotSatisfiable:
		fail(w, status, "InvalidRange", "the object is shorter")
		return
	}
	h := w.Header()
	h.Set("ETag", obj.etag)
	h.Set("Last-Modified", obj.modified.UTC().Format(http.TimeFormat))
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Length", strconv.Itoa(upTo-from))
	if status == http.StatusPartialContent {
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, upTo-1, obj.size))
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has gone needs nothing
}

// byteRange understands "bytes=a-b", "bytes=a-" and "bytes=-n".
func byteRange(header string, size int) (from, upTo, status int) {
	spec, ok := strings.CutPrefix(header, "bytes=")
	if !ok {
		return 0, size, http.StatusOK
	}
	a, b, _ := strings.Cut(spec, "-")
	if a == "" {
		n, err := strconv.Atoi(b)
		if err != nil || n <= 0 || size == 0 {
			return 0, 0, http.StatusRequestedRangeNotSatisfiable
		}
		return max(size-n, 0), size, http.StatusPartialContent
	}
	from, err := strconv.Atoi(a)
	if err != nil || from >= size {
		return 0, 0, http.StatusRequestedRangeNotSatisfiable
	}
	last := size - 1
	if b != "" {
		n, err := strconv.Atoi(b)
		if err != nil || n < from {
			return 0, size, http.StatusOK // S3 ignores a range that makes no sense
		}
		last = min(last, n)
	}
	return from, last + 1, http.StatusPartialContent
}

func (s *Server) delete(w http.ResponseWriter, key string) {
	wait(s.latency.delay(OpDelete, 0))
	s.objects.delete(key)
	s.counter.count(OpDelete, key, 0, http.StatusNoContent)
	w.WriteHeader(http.StatusNoContent)
}

type xmlObject struct {
	Key          string
	LastModified string `xml:",omitempty"`
	ETag         string `xml:",omitempty"`
	Size         int
	StorageClass string `xml:",omitempty"`
}

func (s *Server) deleteMany(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(r)
	var asked struct {
		Quiet   bool
		Objects []xmlObject `xml:"Object"`
	}
	if err == nil {
		err = xml.Unmarshal(body, &asked)
	}
	if err != nil || len(asked.Objects) > 1000 {
		fail(w, http.StatusBadRequest, "MalformedXML", "not a list of up to 1000 keys")
		return
	}
	type deleted struct{ Key string }
	var out struct {
		XMLName xml.Name `xml:"DeleteResult"`
		Deleted []deleted
	}
	wait(s.latency.delay(OpDelete, 0))
	for _, o := range asked.Objects {
		s.objects.delete(o.Key)
		s.counter.count(OpDelete, o.Key, 0, http.StatusOK)
		if !asked.Quiet {
			out.Deleted = append(out.Deleted, deleted{o.Key})
		}
	}
	answer(w, out)
}

func (s *Server) list(w http.ResponseWriter, query url.Values) {
	limit := 1000
	if n, err := strconv.Atoi(query.Get("max-keys")); err == nil && n >= 0 {
		limit = min(n, limit)
	}
	after := query.Get("start-after")
	if token := query.Get("continuation-token"); token != "" {
		after = token
	}
	prefix := query.Get("prefix")
	page, more := s.objects.list(prefix, after, limit)
	wait(s.latency.delay(OpList, 0))
	s.counter.count(OpList, prefix, 0, http.StatusOK)
	var out struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		Prefix                string
		KeyCount              int
		MaxKeys               int
		IsTruncated           bool
		NextContinuationToken string      `xml:",omitempty"`
		EncodingType          string      `xml:",omitempty"`
		Contents              []xmlObject `xml:",omitempty"`
	}
	out.Prefix, out.KeyCount, out.MaxKeys, out.IsTruncated = prefix, len(page), limit, more
	name := func(key string) string { return key }
	if out.EncodingType = query.Get("encoding-type"); out.EncodingType == "url" {
		name = url.QueryEscape
		out.Prefix = name(prefix)
	}
	for _, o := range page {
		out.Contents = append(out.Contents, xmlObject{
			Key: name(o.key), Size: o.size, ETag: o.etag, LastModified: o.modified.UTC().Format("2006-01-02T15:04:05.000Z"),
			StorageClass: "STANDARD",
		})
	}
	if more && len(page) > 0 {
		out.NextContinuationToken = page[len(page)-1].key
	}
	answer(w, out)
}

func answer(w http.ResponseWriter, body any) {
	raw, err := xml.Marshal(body)
	if err != nil {
		fail(w, http.StatusInternalServerError, "InternalError", err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/xml")
	_, _ = io.WriteString(w, xml.Header+string(raw)) // a client that has gone needs nothing
}

func fail(w http.ResponseWriter, status int, code, message string) {
	var b strings.Builder
	b.WriteString(xml.Header + "<Error><Code>" + code + "</Code><Message>")
	if err := xml.EscapeText(&b, []byte(message)); err != nil {
		panic(errors.Join(errors.New("s3sim: a strings.Builder does not fail"), err))
	}
	b.WriteString("</Message></Error>")
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, b.String()) // a client that has gone needs nothing
}
