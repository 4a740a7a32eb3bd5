package kafkaconfig

// Suggest returns the known key nearest to name, or "" when none is near enough to be what was meant.
func Suggest(name string, s Scope) string {
	keys := TopicKeys()
	if s == BrokerScope {
		keys = BrokerKeys()
	}
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.Name
	}
	return Nearest(name, names)
}

// longestName bounds the work of Nearest on hostile names; the longest Kafka key has 68 bytes.
const longestName = 128

// Nearest returns the candidate with the smallest edit distance to name, the first of equals, or "" when more than a third
// of name would have to change.
func Nearest(name string, candidates []string) string {
	if len(name) > longestName {
		return ""
	}
	best, nearest := max(1, len(name)/3)+1, ""
	for _, c := range candidates {
		if d := distance(name, c); d < best {
			best, nearest = d, c
		}
	}
	return nearest
}

// distance counts insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
