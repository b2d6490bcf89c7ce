// Package startable answers one question: may what a lease protects, a VM, be started on another host, and if not, when and
// why. It is pure: what the LUN says about the lease and its holders, what the replicated state knows of them, and the pool's
// policy go in, an answer in words and numbers comes out.
//
// The storage alone decides who gets a lease, so nothing is startable here that an acquire would be refused. The answer is
// more careful than the storage in one thing: the death of a host by the clock says nothing about a machine that no watchdog
// resets. What ran there may still be running, with writes on their way.
//
//	holder's record            protected  proof   policy  answer
//	-                          -          -       -       yes: never taken, or given back
//	free, same generation      -          any     -       yes: it left, or was freed on the proof shown
//	free, earlier generation   -          -       -       no: nobody has it for sure once the record stood still for 8N + W
//	later generation           -          -       -       yes: the host came back since
//	DEAD                       yes        -       -       yes
//	DEAD                       no         valid   -       yes
//	DEAD                       no         -       allow   yes
//	DEAD                       no         -       wait    no: awaits a proof
//	LIVE, FAIL, UNKNOWN        any        valid   -       no: awaits the manager, who frees the record now
//	FAIL                       yes        -       -       no: awaits DEAD, with a countdown
//	FAIL                       no         -       wait    no: awaits a proof
//	LIVE, host lost            yes        -       -       no: awaits DEAD, if it stays silent, with a countdown
//	LIVE, host lost            no         -       wait    no: awaits a proof, or the host back
//	LIVE, host heard of        -          -       -       no: awaits the holder to give it back
//	UNKNOWN                    -          -       -       no: awaits having watched it for long enough
//
// A host that is no member, an oVirt host with sanlock for example, counts as protected: wdmd is part of sanlock's protocol.
// Of several holders the one counts that is waited for the longest.
package startable
