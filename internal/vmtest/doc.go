// Package vmtest runs programs in a virtual machine with Debian's kernel, for what the kernel of the machine at hand may
// lack: device-mapper, watchdogs. QEMU emulates the processor, so that no KVM is needed; a boot takes some seconds.
//
// A Guest is a kernel, the modules it loads, an initramfs with the files it needs (this package writes the archive and
// finds modules and libraries by itself), disks, and a script. What the guest says on its serial console is the output; its
// last word, with a token that only this boot has, is the script's exit status.
package vmtest
