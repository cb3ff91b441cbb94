package record

// Profile is whose CPU time a profiler of the server's own language saw after the trial, under a closed loop of its requests.
type Profile struct {
	// Seconds is how long it looked.
	Seconds int `json:"seconds"`
	// Samples are all that it took; what Go and Rust tell is CPU time of the process, what Node tells that of its main thread.
	Samples int64 `json:"samples"`
	// LoaderSamples are those of the loader, and RuntimeSamples those of nobody but the language's runtime: collecting
	// garbage, scheduling, waiting for the kernel.
	LoaderSamples  int64 `json:"loader_samples"`
	RuntimeSamples int64 `json:"runtime_samples"`
	// Functions are those with the most samples, the runtime's own left out.
	Functions []ProfiledFunction `json:"functions"`
}

// ProfiledFunction is a function, as its language's profiler writes it, with the samples that are its own: those of what it
// called of the runtime and the standard library included.
type ProfiledFunction struct {
	Function string `json:"function"`
	Samples  int64  `json:"samples"`
}
