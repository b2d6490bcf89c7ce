package api

// Image is a disk: a chain of volumes.
type Image struct {
	ID        string `json:"id"`
	Domain    string `json:"domain"` // UUID
	Name      string `json:"name"`   // of the leaf
	Size      int64  `json:"size"`   // what the guest sees
	Allocated int64  `json:"allocated"`
	Leaf      string `json:"leaf,omitempty"`     // the volume that a guest writes; none for a template
	Template  string `json:"template,omitempty"` // the volume of another image that the lowest one is based on
	// Volumes are the layers, the leaf first, each on the next one. Those that do not fit in come last.
	Volumes []Volume `json:"volumes"`
	Problem string   `json:"problem,omitempty"` // why the chain cannot be used
}

// ImageSnapshot asks for a new leaf on that of an image, which keeps what it holds from then on.
type ImageSnapshot struct {
	Name string `json:"name,omitempty"` // of the new volume; default that of the leaf
}
