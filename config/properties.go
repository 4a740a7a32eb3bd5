package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
)

// Property is one setting of a Java properties file.
type Property struct {
	Key, Value string
	Line       int // where it starts
}

// ParseProperties reads a Java properties file as java.util.Properties does: comments, continued lines, escapes. Bytes are
// taken as UTF-8. A key may come more than once; the last counts.
func ParseProperties(text []byte) ([]Property, error) {
	lines := strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(text)), "\n")
	var all []Property
	for i := 0; i < len(lines); i++ {
		line := strings.TrimLeft(lines[i], blanks)
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		start := i + 1
		for continued(line) {
			line = line[:len(line)-1]
			if i++; i >= len(lines) {
				break
			}
			line += strings.TrimLeft(lines[i], blanks)
		}
		key, value := splitProperty(line)
		p := Property{Line: start}
		var err error
		if p.Key, err = unescape(key); err == nil {
			p.Value, err = unescape(value)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", start, err)
		}
		all = append(all, p)
	}
	return all, nil
}

const blanks = " \t\f"

// continued reports whether a line ends in an odd number of backslashes.
func continued(line string) bool {
	return (len(line)-len(strings.TrimRight(line, `\`)))%2 == 1
}

// splitProperty cuts at the first '=', ':' or blank that is not escaped.
func splitProperty(line string) (key, value string) {
	end := 0
	for end < len(line) && !strings.ContainsRune("=:"+blanks, rune(line[end])) {
		if line[end] == '\\' {
			end++
		}
		end++
	}
	end = min(end, len(line))
	value = strings.TrimLeft(line[end:], blanks)
	if value != "" && (value[0] == '=' || value[0] == ':') {
		value = strings.TrimLeft(value[1:], blanks)
	}
	return line[:end], value
}

func unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch s[i] {
		case 't':
			b.WriteByte('\t')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 'f':
			b.WriteByte('\f')
		case 'u':
			r, n, err := unicodeEscape(s[i:])
			if err != nil {
				return "", err
			}
			b.WriteRune(r)
			i += n - 1
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), nil
}

// unicodeEscape reads "uXXXX", or "uXXXX\uXXXX" where the two are one character outside the basic plane.
func unicodeEscape(s string) (r rune, n int, err error) {
	r, err = hex4(s)
	if err != nil {
		return 0, 0, err
	}
	if utf16.IsSurrogate(r) && len(s) >= 11 && s[5:7] == `\u` {
		if low, err := hex4(s[6:]); err == nil {
			if pair := utf16.DecodeRune(r, low); pair != '\uFFFD' {
				return pair, 11, nil
			}
		}
	}
	return r, 5, nil
}

func hex4(s string) (rune, error) {
	if len(s) >= 5 {
		if n, err := strconv.ParseUint(s[1:5], 16, 16); err == nil {
			return rune(n), nil
		}
	}
	return 0, errors.New(`malformed \uxxxx escape`)
}
