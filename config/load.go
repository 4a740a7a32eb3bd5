package config

// Input is where settings come from. ReadFile and Getwd stand for the operating system's.
type Input struct {
	Args     []string // flags only, without the program and the verb
	Env      []string // NAME=value
	ReadFile func(name string) ([]byte, error)
	WorkDir  string // absolute: what relative paths start from
}
