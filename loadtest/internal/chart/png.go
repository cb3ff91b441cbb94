package chart

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// Rasteriser turns SVG into PNG with resvg (MPL-2.0), compiled to WebAssembly: the same pixels everywhere, and no
// browser.
type Rasteriser struct {
	runtime wazero.Runtime
	module  wazero.CompiledModule
}

// NewRasteriser compiles resvg. What was compiled is kept in the cache folder; without one it is compiled each time.
func NewRasteriser(ctx context.Context, cache string) (*Rasteriser, error) {
	config := wazero.NewRuntimeConfig()
	if cache != "" {
		dir := filepath.Join(cache, "wazero")
		if err := os.MkdirAll(dir, 0o755); err == nil {
			if c, err := wazero.NewCompilationCacheWithDir(dir); err == nil {
				config = config.WithCompilationCache(c)
			}
		}
	}
	r := &Rasteriser{runtime: wazero.NewRuntimeWithConfig(ctx, config)}
	var err error
	if r.module, err = r.runtime.CompileModule(ctx, asset("resvg.wasm")); err != nil {
		return nil, fmt.Errorf("resvg: %w", err)
	}
	if err := r.bind(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// Close ends it.
func (r *Rasteriser) Close(ctx context.Context) error { return r.runtime.Close(ctx) }

// PNG draws an SVG at a multiple of its size. Only Inter is there to write with.
func (r *Rasteriser) PNG(ctx context.Context, svg string, zoom float64) (png []byte, err error) {
	i := &instance{heap: &heap{}}
	ctx = context.WithValue(ctx, heapKey{}, i.heap)
	if i.module, err = r.runtime.InstantiateModule(ctx, r.module, wazero.NewModuleConfig().WithName("").WithStartFunctions()); err != nil {
		return nil, fmt.Errorf("resvg: %w", err)
	}
	defer func() { err = errors.Join(err, i.module.Close(ctx)) }()
	options, err := json.Marshal(M{"fitTo": M{"mode": "zoom", "value": zoom}, "font": M{"defaultFontFamily": "Inter", "sansSerifFamily": "Inter"}})
	if err != nil {
		return nil, err
	}
	fonts := &list{values: []any{asset("inter-400.ttf"), asset("inter-600.ttf")}}
	at, err := i.passString(ctx, string(options))
	if err != nil {
		return nil, err
	}
	resvg, err := i.returning(ctx, "resvg_new", i.heap.add(svg), uint64(at), uint64(len(options)), i.heap.add(fonts))
	if err != nil {
		return nil, err
	}
	image, err := i.returning(ctx, "resvg_render", uint64(resvg))
	if err != nil {
		return nil, err
	}
	data, err := i.returning(ctx, "renderedimage_asPng", uint64(image))
	if err != nil {
		return nil, err
	}
	png, ok := i.heap.get(uint64(data)).([]byte)
	if !ok {
		return nil, errors.New("resvg: gave no PNG")
	}
	return png, nil
}

// instance is one run of the module. resvg's exports follow wasm-bindgen: objects of the host are numbers of a heap that
// the host keeps.
type instance struct {
	module api.Module
	heap   *heap
}

// returning calls a function that writes three words where it is told: a value, or an error and that it is one.
func (i *instance) returning(ctx context.Context, name string, args ...uint64) (uint32, error) {
	stack := i.module.ExportedFunction("__wbindgen_add_to_stack_pointer")
	at, err := stack.Call(ctx, api.EncodeI32(-16))
	if err != nil {
		return 0, fmt.Errorf("resvg: %w", err)
	}
	defer func() { _, _ = stack.Call(ctx, 16) }()
	if _, err := i.module.ExportedFunction(name).Call(ctx, append([]uint64{at[0]}, args...)...); err != nil {
		return 0, fmt.Errorf("resvg: %s: %w", name, err)
	}
	words := [3]uint32{}
	for k := range words {
		words[k], _ = i.module.Memory().ReadUint32Le(uint32(at[0]) + uint32(4*k))
	}
	if words[2] != 0 {
		return 0, fmt.Errorf("resvg: %s: %v", name, i.heap.get(uint64(words[1])))
	}
	return words[0], nil
}

func (i *instance) passString(ctx context.Context, s string) (uint32, error) {
	return passString(ctx, i.module, s)
}

func passString(ctx context.Context, m api.Module, s string) (uint32, error) {
	at, err := m.ExportedFunction("__wbindgen_malloc").Call(ctx, uint64(len(s)), 1)
	if err != nil {
		return 0, fmt.Errorf("resvg: %w", err)
	}
	if !m.Memory().WriteString(uint32(at[0]), s) {
		return 0, errors.New("resvg: out of memory")
	}
	return uint32(at[0]), nil
}

type heapKey struct{}

// heap has the host's objects. Nothing is freed: it lives for one picture.
type heap struct{ values []any }

// heapFirst leaves out the numbers that wasm-bindgen gives undefined, null, true and false.
const heapFirst = 132

func (h *heap) add(v any) uint64 {
	h.values = append(h.values, v)
	return uint64(len(h.values) - 1 + heapFirst)
}

func (h *heap) get(i uint64) any {
	if i < heapFirst || i-heapFirst >= uint64(len(h.values)) {
		return nil
	}
	return h.values[i-heapFirst]
}

// list is an array, or what iterates over one.
type list struct {
	values []any
	next   int
}

// step is what an iterator gives.
type step struct {
	value any
	done  bool
}

// memory and view stand for WebAssembly.Memory's buffer and for an array over a part of it.
type (
	memory struct{}
	view   struct{ at, length uint32 }
)

// bind gives resvg the functions that it imports. Their names end in a digest, which changes with each build of
// wasm-bindgen, so they are known by what comes before.
func (r *Rasteriser) bind(ctx context.Context) error {
	b := r.runtime.NewHostModuleBuilder("wbg")
	for _, f := range r.module.ImportedFunctions() {
		_, name, _ := f.Import()
		key := stem(name)
		if key == "new" {
			key = fmt.Sprintf("new/%d", len(f.ParamTypes()))
		}
		run, ok := hostFunctions[key]
		if !ok {
			return fmt.Errorf("resvg: it imports %s, which this program does not know", name)
		}
		b = b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(ctx context.Context, m api.Module, stack []uint64) {
			h, _ := ctx.Value(heapKey{}).(*heap)
			run(ctx, m, h, stack)
		}), f.ParamTypes(), f.ResultTypes()).Export(name)
	}
	_, err := b.Instantiate(ctx)
	if err != nil {
		return fmt.Errorf("resvg: %w", err)
	}
	return nil
}

func stem(name string) string {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "__wbindgen_"), "__wbg_")
	if i := strings.LastIndexByte(name, '_'); i > 0 && len(name)-i == 17 {
		name = name[:i]
	}
	return name
}

func bytesOf(m api.Module, v any) []byte {
	switch v := v.(type) {
	case []byte:
		return v
	case view:
		b, _ := m.Memory().Read(v.at, v.length)
		return b
	case memory:
		b, _ := m.Memory().Read(0, m.Memory().Size())
		return b
	}
	return nil
}

var hostFunctions = map[string]func(ctx context.Context, m api.Module, h *heap, s []uint64){
	"memory": func(_ context.Context, _ api.Module, h *heap, s []uint64) { s[0] = h.add(memory{}) },
	"buffer": func(_ context.Context, _ api.Module, h *heap, s []uint64) { s[0] = h.add(h.get(s[0])) },
	"newwithbyteoffsetandlength": func(_ context.Context, _ api.Module, h *heap, s []uint64) {
		s[0] = h.add(view{uint32(s[1]), uint32(s[2])})
	},
	"object_drop_ref": func(context.Context, api.Module, *heap, []uint64) {},
	// JavaScript's new Error(text), new Uint8Array(value) and new Array().
	"new/2": func(_ context.Context, m api.Module, h *heap, s []uint64) {
		b, _ := m.Memory().Read(uint32(s[0]), uint32(s[1]))
		s[0] = h.add(string(b))
	},
	"new/1": func(_ context.Context, m api.Module, h *heap, s []uint64) {
		s[0] = h.add(append([]byte(nil), bytesOf(m, h.get(s[0]))...))
	},
	"new/0": func(_ context.Context, _ api.Module, h *heap, s []uint64) { s[0] = h.add(&list{}) },
	"values": func(_ context.Context, _ api.Module, h *heap, s []uint64) {
		l, _ := h.get(s[0]).(*list)
		s[0] = h.add(&list{values: l.values})
	},
	"next": func(_ context.Context, _ api.Module, h *heap, s []uint64) {
		l, _ := h.get(s[0]).(*list)
		if l.next >= len(l.values) {
			s[0] = h.add(step{done: true})
			return
		}
		l.next++
		s[0] = h.add(step{value: l.values[l.next-1]})
	},
	"done": func(_ context.Context, _ api.Module, h *heap, s []uint64) {
		x, _ := h.get(s[0]).(step)
		s[0] = 0
		if x.done {
			s[0] = 1
		}
	},
	"value": func(_ context.Context, _ api.Module, h *heap, s []uint64) {
		x, _ := h.get(s[0]).(step)
		s[0] = h.add(x.value)
	},
	"instanceof_Uint8Array": func(_ context.Context, _ api.Module, h *heap, s []uint64) {
		_, ok := h.get(s[0]).([]byte)
		s[0] = 0
		if ok {
			s[0] = 1
		}
	},
	"string_get": func(ctx context.Context, m api.Module, h *heap, s []uint64) {
		out := uint32(s[0])
		var at, length uint32
		if text, ok := h.get(s[1]).(string); ok {
			var err error
			if at, err = passString(ctx, m, text); err != nil {
				panic(err) // wazero makes an error of it
			}
			length = uint32(len(text))
		}
		m.Memory().WriteUint32Le(out+4, length)
		m.Memory().WriteUint32Le(out, at)
	},
	"string_new": func(_ context.Context, m api.Module, h *heap, s []uint64) {
		b, _ := m.Memory().Read(uint32(s[0]), uint32(s[1]))
		s[0] = h.add(string(b))
	},
	"push": func(_ context.Context, _ api.Module, h *heap, s []uint64) {
		l, _ := h.get(s[0]).(*list)
		l.values = append(l.values, h.get(s[1]))
		s[0] = uint64(len(l.values))
	},
	"length": func(_ context.Context, m api.Module, h *heap, s []uint64) {
		s[0] = uint64(len(bytesOf(m, h.get(s[0]))))
	},
	"set": func(_ context.Context, m api.Module, h *heap, s []uint64) {
		if target, ok := h.get(s[0]).(view); ok {
			m.Memory().Write(target.at+uint32(s[2]), bytesOf(m, h.get(s[1])))
			return
		}
		m.Memory().Write(uint32(s[2]), bytesOf(m, h.get(s[1]))) // an array over all of the memory
	},
	"throw": func(_ context.Context, m api.Module, _ *heap, s []uint64) {
		b, _ := m.Memory().Read(uint32(s[0]), uint32(s[1]))
		panic(errors.New(string(b)))
	},
}
