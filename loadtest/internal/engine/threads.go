package engine

import "time"

// Thread is what the kernel tells of one thread since it began.
type Thread struct {
	CPU time.Duration
	// RunDelay is for how long it was ready to run and waited for a CPU (the second field of schedstat).
	RunDelay time.Duration
	// Voluntary switches give a CPU up to wait for something, involuntary ones lose it to another thread.
	Voluntary, Involuntary int64
}

// Threads are the threads of a process tree that live, by their id.
type Threads map[int]Thread

// Sub returns what each thread that lives now has done since an earlier reading. A thread that began meanwhile counts from
// its beginning; what one that has ended did since is not known any more.
func (t Threads) Sub(earlier Threads) Threads {
	if t == nil || earlier == nil {
		return nil
	}
	since := make(Threads, len(t))
	for id, now := range t {
		before := earlier[id]
		if before.CPU > now.CPU || before.Voluntary > now.Voluntary || before.Involuntary > now.Involuntary {
			before = Thread{} // another thread that was given the id
		}
		since[id] = Thread{
			CPU: now.CPU - before.CPU, RunDelay: max(0, now.RunDelay-before.RunDelay),
			Voluntary: now.Voluntary - before.Voluntary, Involuntary: now.Involuntary - before.Involuntary,
		}
	}
	return since
}

// Add joins the threads of two parts.
func (t Threads) Add(other Threads) Threads {
	if t == nil || other == nil {
		return nil
	}
	all := make(Threads, len(t)+len(other))
	for _, part := range []Threads{t, other} {
		for id, thread := range part {
			all[id] = thread
		}
	}
	return all
}

// Total adds the threads up; nil where they are not known.
func (t Threads) Total() *Thread {
	if t == nil {
		return nil
	}
	var sum Thread
	for _, thread := range t {
		sum.CPU += thread.CPU
		sum.RunDelay += thread.RunDelay
		sum.Voluntary += thread.Voluntary
		sum.Involuntary += thread.Involuntary
	}
	return &sum
}

// Busiest is the largest CPU time of one thread; nil where they are not known.
func (t Threads) Busiest() *time.Duration {
	if t == nil {
		return nil
	}
	var most time.Duration
	for _, thread := range t {
		most = max(most, thread.CPU)
	}
	return &most
}
