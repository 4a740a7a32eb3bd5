package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// readYAML adds the settings of the file, which is strict: no unknown key, none twice, one document.
func (s *sources) readYAML(in Input, file given) {
	const mend = "name a readable YAML file"
	path := absolute(in.WorkDir, file.text)
	text, err := in.ReadFile(path)
	if err != nil {
		s.problem("config", file.source, mend, "%v", err)
		return
	}
	name := filepath.Base(path)
	d := yaml.NewDecoder(bytes.NewReader(text))
	var doc, second yaml.Node
	switch err := d.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return
	case err != nil:
		s.problem("config", file.source, "correct "+path, "%s", strings.TrimPrefix(err.Error(), "yaml: "))
		return
	}
	if err := d.Decode(&second); !errors.Is(err, io.EOF) {
		s.problem("config", file.source, "keep one document in "+path, "there is a second YAML document")
		return
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return
	}
	s.eachPair(root, name, func(key string, k, value *yaml.Node) {
		where := fmt.Sprintf("%s line %d", name, k.Line)
		_, known := settingByKey(key)
		switch {
		case key == "kafka":
			s.yamlKafka(value, name)
		case !known || key == "config":
			s.problem(key, where, "rename or remove it", "unknown setting%s", didYouMean("", key, keys()))
		case value.Kind != yaml.ScalarNode:
			s.problem(key, where, "write one value after the colon", "a list or a block stands where a value belongs")
		default:
			s.add(key, scalar(value), where)
		}
	})
}

func (s *sources) yamlKafka(block *yaml.Node, name string) {
	s.eachPair(block, name, func(key string, k, value *yaml.Node) {
		where := fmt.Sprintf("%s line %d", name, k.Line)
		switch value.Kind {
		case yaml.ScalarNode:
			s.kafka[key] = append(s.kafka[key], given{scalar(value), where})
		case yaml.SequenceNode:
			var list []string
			for _, v := range value.Content {
				list = append(list, scalar(v))
			}
			s.kafka[key] = append(s.kafka[key], given{strings.Join(list, ","), where})
		default:
			s.problem("kafka."+key, where, "write the name with dots, as Kafka does: num.partitions: 4", "a block stands where a value belongs")
		}
	})
}

// eachPair calls f for the pairs of a mapping and complains of everything else.
func (s *sources) eachPair(n *yaml.Node, name string, f func(key string, k, value *yaml.Node)) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		s.problem("config", fmt.Sprintf("%s line %d", name, n.Line), "write lines of key: value", "this is not a block of settings")
		return
	}
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, value := n.Content[i], n.Content[i+1]
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		if first := lines[k.Value]; first > 0 {
			s.problem(k.Value, fmt.Sprintf("%s line %d", name, k.Line), "keep one of the two", "it is given in line %d already", first)
			continue
		}
		lines[k.Value] = k.Line
		f(k.Value, k, value)
	}
}

// scalar is the text as it was written, so that 007 and 1e3 stay what they are.
func scalar(n *yaml.Node) string {
	if n.Tag == "!!null" {
		return ""
	}
	return n.Value
}
